"""The command line: parses flags, calls the Python API, prints. Nothing else.

Exit status: 0 done; 1 done, and a check failed; 2 bad usage or input; 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NoReturn, final

import tyro

from policyscope.config import (
    BenchConfig,
    DatasetConfig,
    EnvConfig,
    EvalConfig,
    Language,
    PageConfig,
    PolicyConfig,
    RolloutConfig,
)
from policyscope.demo import NEXT, DemoConfig, demo_config
from policyscope.errors import PolicyscopeError, RefusedError, UsageError
from policyscope.report import ReportConfig

if TYPE_CHECKING:
    from rich.console import Console

    from policyscope.evaluation import Run

_DESCRIPTION = """\
Is this checkpoint any good? Evaluates robot policies on recorded demonstrations, in native
units, against trivial baselines, with honest intervals.

  policyscope demo
  policyscope eval --policy.path DIR --dataset.repo_id lerobot/pusht
  policyscope eval --policy.type hold_state --dataset.repo_id my/data --dataset.root DIR
  policyscope bench --policy.path DIR --dataset.repo_id lerobot/pusht
  policyscope rollout --policy.path DIR --env.type pusht --n_episodes 50
  policyscope report DIR

--debug shows the traceback of an error. Exit status: 0 done; 1 done, and a check failed;
2 bad usage or input; 130 interrupted."""


@final
@dataclass(frozen=True)
class _Check:
    """Finds what would make the numbers meaningless, in seconds: in the files of policy and
    dataset, then in the predictions of a few hundred frames.

    policyscope check --policy.path DIR --dataset.repo_id lerobot/pusht --dataset.root DATA

    Exit status: 0 no findings but hints; 1 warnings or errors; 2 bad usage or input.
    """

    policy: PolicyConfig = field(default_factory=PolicyConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    rename_map: str | None = None
    """JSON, dataset key to policy key, or to a list of policy keys."""
    action_dims: str | None = None
    """Dims to compare where policy and dataset differ: indices or names."""
    action_kind: Literal["absolute", "delta"] = "absolute"
    """What an action means."""
    stats: Literal["checkpoint", "dataset"] = "checkpoint"
    """Whose normalization statistics the policy's processors use."""
    n_action_steps: int | None = None
    """Steps a robot would run of each chunk."""
    frames: int = 256
    """Frames to ask the policy about, spread over at most eight episodes; 0 reads files alone."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where the policy runs; auto takes cuda, then mps, then cpu."""
    json: bool = False
    """Print the findings as JSON."""


@final
@dataclass(frozen=True)
class _CheckEnv:
    """Does an environment keep the contract that closed-loop numbers rest on?

    policyscope check_env --env.type gym --env.task my_package:MyEnv-v0
    """

    env: EnvConfig = field(default_factory=EnvConfig)


@final
@dataclass(frozen=True)
class _Report:
    """Render a stored run again, without the policy: the page, the picture and the table.

    policyscope report out --report.episodes 190,193 --lang zh

    policyscope report out_a out_b --output side_by_side.html
    """

    runs: tyro.conf.Positional[tuple[str, ...]]
    """Run directory; several are put side by side on one page."""
    report: PageConfig = field(default_factory=PageConfig)
    lang: Language = "en"
    """Language of the page."""
    output: str = "policyscope.html"
    """Where the page of several runs goes; that of one run is report.html in its directory."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"] or ["--help"]
    try:
        sys.exit(_run(words))
    except PolicyscopeError as error:
        if debug:
            raise
        _complain(error)
        sys.exit(2)
    except KeyboardInterrupt as interrupt:
        where = f" --output_dir {interrupt.args[0]}" if interrupt.args else ""
        instead = " instead of --overwrite" if "--overwrite" in words else ""
        print(
            f"interrupted: the same command with --resume{where}{instead} goes on", file=sys.stderr
        )
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _run(words: list[str]) -> int:
    command = tyro.extras.subcommand_cli_from_dict(
        {
            "demo": DemoConfig,
            "eval": EvalConfig,
            "check": _Check,
            "bench": BenchConfig,
            "rollout": RolloutConfig,
            "check_env": _CheckEnv,
            "report": _Report,
        },
        args=words,
        prog="policyscope",
        description=_DESCRIPTION,
        config=(tyro.conf.FlagCreatePairsOff,),
        use_underscores=True,
    )
    if isinstance(command, EvalConfig):
        return _eval(command)
    if isinstance(command, DemoConfig):
        return _demo(command)
    if isinstance(command, RolloutConfig):
        return _rollout(command)
    if isinstance(command, _CheckEnv):
        return _check_env(command)
    if isinstance(command, _Check):
        return _check(command)
    if isinstance(command, BenchConfig):
        return _bench(command)
    return _report(command)


def _demo(demo: DemoConfig) -> int:
    with demo_config(demo) as config:
        status = _eval(config)
    out = _console()
    if demo.broken:
        with demo_config(DemoConfig(demo.output_dir)) as config:
            run = _evaluated(config)
        from pathlib import Path

        from policyscope.report import render
        from policyscope.run.record import read_record
        from policyscope.views.words import beside

        render(ReportConfig(str(run.directory)))
        whole, broken = run.record, read_record(Path(f"{demo.output_dir}-broken").expanduser())
        out.print(beside(whole, broken), markup=False, style="bold")
        return status
    out.print("\nNext, on your own checkpoint and dataset:", style="bold")
    for line in NEXT:
        out.print(f"  {line}", markup=False, soft_wrap=True)
    return status


def _evaluated(config: EvalConfig) -> Run:
    _quiet()
    from policyscope.evaluation import evaluate
    from policyscope.watch import TerminalProgress

    with TerminalProgress(_console(stderr=True)) as progress:
        return evaluate(config, progress)


def _eval(config: EvalConfig) -> int:
    run = _evaluated(config)
    from policyscope.report import render
    from policyscope.views.table import run_table

    page = render(ReportConfig(str(run.directory), config.report, config.lang))
    out = _console()
    out.print(run_table(run.record))
    out.print(f"{page}, beside report.png, run.json and predictions.parquet", markup=False)
    return 1 if any(f["severity"] == "error" for f in run.record["findings"]) else 0


def _rollout(config: RolloutConfig) -> int:
    _quiet()
    from policyscope.report import render
    from policyscope.sim.rollout import rollout
    from policyscope.views.rollout_table import rollout_table
    from policyscope.watch import RolloutDashboard

    with RolloutDashboard(_console(stderr=True)) as progress:
        run = rollout(config, progress)
    page = render(ReportConfig(str(run.directory), lang=config.lang))
    out = _console()
    out.print(rollout_table(run.record))
    out.print(f"{page}, beside report.png, run.json, steps.parquet, eval_info.json", markup=False)
    return 1 if any(f["severity"] == "error" for f in run.record["findings"]) else 0


def _check_env(command: _CheckEnv) -> int:
    _quiet()
    from policyscope.sim.conformance import check_environment
    from policyscope.views.table import findings_text

    rows = [finding.to_json() for finding in check_environment(command.env)]
    if rows:
        _console().print(findings_text(rows))
    else:
        print("the environment keeps the contract")
    return 1 if rows else 0


def _check(command: _Check) -> int:
    _quiet()
    import json

    from policyscope.errors import UsageError
    from policyscope.evaluation import check, probe
    from policyscope.findings import errors_in
    from policyscope.views.table import findings_text

    config = EvalConfig(
        policy=command.policy,
        dataset=command.dataset,
        rename_map=command.rename_map,
        action_dims=command.action_dims,
        action_kind=command.action_kind,
        stats=command.stats,
        n_action_steps=command.n_action_steps,
        device=command.device,
    )
    if command.frames < 0:
        raise UsageError(
            "--frames", expected="at least 0", found=str(command.frames), fix="--frames 256"
        )
    inputs = check(config)
    findings = inputs.findings
    if command.frames and not errors_in(findings):
        findings += probe(config, inputs, command.frames)
    rows = [finding.to_json() for finding in findings]
    if command.json:
        print(json.dumps(rows, indent=1))
    elif rows:
        _console().print(findings_text(rows))
    else:
        print("no findings")
    return 1 if any(row["severity"] != "info" for row in rows) else 0


def _bench(config: BenchConfig) -> int:
    _quiet()
    from policyscope.bench import bench
    from policyscope.views.bench_picture import bench_table
    from policyscope.watch import TerminalProgress

    with TerminalProgress(_console(stderr=True)) as progress:
        measured = bench(config, progress)
    out = _console()
    out.print(bench_table(measured.record))
    out.print(f"{measured.directory}: bench.json, bench.png", markup=False)
    return 0


def _report(command: _Report) -> int:
    from pathlib import Path

    from policyscope.report import render, render_together
    from policyscope.run.record import read_record
    from policyscope.views.rollout_table import rollout_table
    from policyscope.views.table import run_table

    out = _console()
    if len(command.runs) > 1:
        page = render_together(command.runs, command.output, command.lang)
        out.print(str(page), markup=False)
        return 0
    if not command.runs:
        raise UsageError(
            "policyscope report",
            expected="a run directory",
            found="none",
            fix="policyscope report DIR",
        )
    run = command.runs[0]
    page = render(ReportConfig(run, command.report, command.lang))
    record = read_record(Path(run).expanduser())
    out.print(rollout_table(record) if record["kind"] == "rollout" else run_table(record))
    out.print(f"{page}, beside report.png", markup=False)
    return 0


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    class Pipeable(Console):
        def on_broken_pipe(self) -> None:  # rich would exit with 1: a failed check
            raise BrokenPipeError

    return Pipeable(stderr=stderr, highlight=False)


def _complain(error: PolicyscopeError) -> None:
    if isinstance(error, RefusedError):
        for finding in error.findings:
            line = f"refused: {finding.code}: {finding.message} Fix: {finding.fix}"
            print(line, file=sys.stderr)
    else:
        print(f"error: {error}", file=sys.stderr)


def _quiet() -> None:
    """Keep the libraries' progress bars and chatter off the terminal."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
