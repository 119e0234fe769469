"""The command line: parses flags, calls the Python API, prints. Nothing else.

Exit status: 0 done; 1 done, and a check failed; 2 bad usage or input; 130 interrupted.
"""

from __future__ import annotations

import contextlib
import io
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, final

import tyro

from policyscope.commands import checking, stored
from policyscope.commands.streams import (
    close_stdout,
    complain,
    console,
    from_outside,
    open_streams,
    quiet,
)
from policyscope.commands.translate import by_dataset, translated
from policyscope.commands.words import require_known
from policyscope.config import (
    BenchConfig,
    CheckConfig,
    CheckEnvConfig,
    CompareConfig,
    ConvertConfig,
    CorrelateConfig,
    DemoConfig,
    EvalConfig,
    ExecuteConfig,
    ImportConfig,
    Language,
    PageConfig,
    PlanConfig,
    ReportConfig,
    RolloutConfig,
    SchemaConfig,
    ServeConfig,
    SweepConfig,
)
from policyscope.errors import (
    InputError,
    PolicyscopeError,
    UsageError,
    first_line,
    visible,
)

if TYPE_CHECKING:
    from policyscope.commands.session import Run
    from policyscope.runs.content import OfflineRecord

_NEXT = (
    "policyscope check --policy.path YOUR/pretrained_model --dataset.repo_id YOU/DATA",
    "policyscope eval --policy.path YOUR/pretrained_model --dataset.repo_id YOU/DATA",
    "policyscope eval --policy.type hold_state --dataset.repo_id YOU/DATA --dataset.root DIR",
)

_DESCRIPTION = """\
Is this checkpoint any good? Evaluates robot policies on recorded demonstrations, in native
units, against trivial baselines, with honest intervals.

  policyscope demo
  policyscope eval --policy.path DIR --dataset.repo_id lerobot/pusht
  policyscope eval --policy.type hold_state --dataset.repo_id my/data --dataset.root DIR
  policyscope check --dataset.repo_id lerobot/pusht
  policyscope bench --policy.path DIR --dataset.repo_id lerobot/pusht
  policyscope rollout --policy.path DIR --env.type pusht --n_episodes 50
  policyscope sweep 'outputs/train/x/checkpoints/*/pretrained_model' --dataset.repo_id you/data
  policyscope report DIR
  policyscope compare BASE RUN
  policyscope plan --from 0.6 --to 0.8
  policyscope import eval_info.json
  policyscope correlate RUNS
  policyscope serve DIR

A pasted lerobot-eval line runs, too. --config run.json repeats a run, flags override;
--debug shows the traceback of an error; --version. Exit status: 0 done; 1 done, and a check failed;
2 bad usage or input; 130 interrupted."""


@final
@dataclass(frozen=True)
class _Report:
    """Render a stored run again, without the policy: the page, the picture and the table.

    policyscope report out --report.episodes 190,193 --lang zh

    policyscope report out_a out_b --output comparison.html

    policyscope report out --model_card card.md
    """

    runs: tyro.conf.Positional[tuple[str, ...]]
    """Run directory, or its address (s3://BUCKET/PATH); several are compared on one
    page, the first being the base."""
    report: PageConfig = field(default_factory=PageConfig)
    lang: Language = "en"
    """Language of page, picture and terminal; Chinese files (report.zh.html) stand beside English
    ones."""
    output: str = "policyscope.html"
    """Where the page of several runs goes; that of one run is report.html in its directory."""
    model_card: str | None = None
    """Also write the run's results as a Hugging Face model card's block into this file."""


_COMMANDS: dict[str, Callable[..., Any]] = {
    "demo": DemoConfig,
    "eval": EvalConfig,
    "check": CheckConfig,
    "bench": BenchConfig,
    "rollout": RolloutConfig,
    "check_env": CheckEnvConfig,
    "report": _Report,
    "compare": CompareConfig,
    "plan": PlanConfig,
    "import": ImportConfig,
    "correlate": CorrelateConfig,
    "sweep": SweepConfig,
    "schema": SchemaConfig,
    "convert": ConvertConfig,
    "execute": ExecuteConfig,
    "serve": ServeConfig,
}


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"] or ["--help"]
    open_streams()
    if words == ["--version"]:
        from importlib.metadata import version

        print(f"policyscope {version('policyscope')}")
        sys.exit(0)
    try:
        status = _run(words)
        sys.stdout.flush()
    except PolicyscopeError as error:
        if debug:
            raise
        complain(error)
        status = 2
    except KeyboardInterrupt as interrupt:
        added = "" if words[0] == "sweep" else " --resume"  # a sweep always goes on
        added += f" --output_dir {visible(str(interrupt.args[0]))}" if interrupt.args else ""
        instead = " instead of --overwrite" if "--overwrite" in words else ""
        print(f"interrupted: the same command with{added}{instead} goes on", file=sys.stderr)
        status = 130
    except BrokenPipeError:
        close_stdout()
        status = 0
    except Exception as error:
        if debug or not from_outside(error):
            raise
        close_stdout()  # it may be what is full
        found = f"{type(error).__name__}: {first_line(error)}"
        complain(
            InputError(
                f"policyscope {words[0]}",
                expected="files, memory and disks that hold what they are asked to",
                found=found,
                fix="make room or mend the file that it names; --debug shows where",
            )
        )
        status = 2
    sys.exit(status)


def _parsed(words: list[str]) -> Any:
    """The command that the words ask for.

    Raises:
        UsageError: they make no sense; tyro's box of several lines becomes one.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.extras.subcommand_cli_from_dict(
                _COMMANDS,
                args=words,
                prog="policyscope",
                description=_DESCRIPTION,
                config=(tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone),
                use_underscores=True,
            )
    except SystemExit as end:
        if end.code != 2:
            raise
        command = words[0] if words[0] in _COMMANDS else ""
        raise UsageError(
            f"policyscope {command}".strip(),
            expected="a command and flags as --help lists them",
            found=_box(said.getvalue()),
            fix=f"policyscope {command} --help".replace("  ", " "),
        ) from None


def _box(text: str) -> str:
    """What stands in the first part of tyro's box."""
    lines = []
    for line in text.splitlines():
        inner = line.strip().strip("│╭╮╰╯ ").strip()
        if line.startswith("│") and inner and not inner.strip("─"):
            break
        if line.startswith("│"):
            lines.append(inner)
    return " ".join(lines) or " ".join(text.split()) or "something else"


def _run(words: list[str]) -> int:
    ours = translated(words, _COMMANDS)
    if ours is not None:
        print(f"read as: policyscope {visible(shlex.join(ours))}", file=sys.stderr)
        if sys.argv[1:] == words:  # the record holds what was meant, so that it can be repeated
            sys.argv[1:] = ours
        words = ours
    require_known(words, _COMMANDS)
    several = by_dataset(words, _COMMANDS)
    if several is not None:
        return _mixture(several)
    command = _parsed(words)
    return _RUN[type(command)](command)


def _mixture(several: list[list[str]]) -> int:
    configs = [_parsed(words) for words in several]
    from policyscope.commands.mixture import MIXTURE, evaluate_mixture
    from policyscope.commands.report import render
    from policyscope.views.mixture import mixture_table

    typed, out = sys.argv, console()

    def run(place: int, config: EvalConfig) -> Run[OfflineRecord]:
        out.print(f"{place + 1}/{len(configs)}: {config.dataset_name}", markup=False)
        alone = [*several[place], "--output_dir", str(config.output_dir)]
        sys.argv = [typed[0], *alone]  # which the record holds
        done = _evaluated(config)
        render(ReportConfig(str(done.directory), config.report, config.lang))
        return done

    try:
        mixture = evaluate_mixture(configs, run)
    finally:
        sys.argv = typed
    out.print(mixture_table(mixture))
    out.print(f"{mixture.directory / MIXTURE}, beside a run of each dataset", markup=False)
    return 0 if mixture.whole else 1


def _demo(demo: DemoConfig) -> int:
    from policyscope.commands.demo import demo_config, demo_rollout

    with demo_config(demo) as config:
        status = _eval(config)
    out = console()
    if demo.broken:
        with demo_config(DemoConfig(demo.output_dir)) as config:
            run = _evaluated(config)
        from policyscope.commands.report import render
        from policyscope.runs.carried import place
        from policyscope.runs.record import read_complete
        from policyscope.views.offline.words import beside

        render(ReportConfig(str(run.directory)))
        broken = read_complete(place(f"{demo.output_dir}-broken"))
        assert broken.kind == "offline", "it was evaluated a moment ago"
        out.print(beside(run.record, broken), markup=False, style="bold")
        return status
    with demo_rollout(demo) as games:
        if games is None:
            out.print("\nThree games of PushT would follow: pip install 'policyscope[pusht]'")
        else:
            out.print("\nThree games of PushT, by an ACT that sees keypoints:", style="bold")
            status |= _rollout(games)
    out.print("\nNext, on your own checkpoint and dataset:", style="bold")
    for line in _NEXT:
        out.print(f"  {line}", markup=False, soft_wrap=True)
    return status


def _evaluated(config: EvalConfig) -> Run[OfflineRecord]:
    quiet()
    from policyscope.commands.evaluate import evaluate
    from policyscope.views.terminal import TerminalProgress

    with TerminalProgress(console(stderr=True)) as progress:
        return evaluate(config, progress)


def _eval(config: EvalConfig) -> int:
    run = _evaluated(config)
    from policyscope.commands.report import render
    from policyscope.runs.carried import shown
    from policyscope.views.language import speaker
    from policyscope.views.offline.table import run_table

    page = render(ReportConfig(str(run.directory), config.report, config.lang))
    out = console()
    out.print(run_table(run.record, speaker(config.lang)))
    pictures = _pictures(page, config.report)
    out.print(f"{shown(page)}, beside {pictures}, run.json and predictions.parquet", markup=False)
    return 1 if run.record.errors else 0


def _pictures(page: Path, config: PageConfig) -> str:
    return ", ".join(f"{page.stem}.{ending}" for ending in config.endings())


def _rollout(config: RolloutConfig) -> int:
    quiet()
    if config.sweep is not None:
        from policyscope.commands.steps import print_steps

        return print_steps(config)
    from policyscope.commands.report import render
    from policyscope.commands.rollout import rollout
    from policyscope.runs.carried import shown
    from policyscope.views.language import speaker
    from policyscope.views.rollout.table import rollout_table
    from policyscope.views.terminal import RolloutDashboard

    with RolloutDashboard(console(stderr=True)) as progress:
        run = rollout(config, progress)
    page = render(ReportConfig(str(run.directory), config.report, config.lang))
    out = console()
    out.print(rollout_table(run.record, speaker(config.lang)))
    beside = f"{_pictures(page, config.report)}, run.json, steps.parquet, eval_info.json"
    beside += ", videos/" if any(row.video for row in run.record.episodes) else ""
    out.print(f"{shown(page)}, beside {beside}", markup=False)
    if config.record is not None:
        out.print(f"recorded as a dataset: {config.record}", markup=False)
    return 1 if run.record.errors else 0


def _bench(config: BenchConfig) -> int:
    quiet()
    from policyscope.commands.bench import bench
    from policyscope.runs.carried import shown
    from policyscope.views.bench import bench_table
    from policyscope.views.terminal import TerminalProgress

    with TerminalProgress(console(stderr=True)) as progress:
        measured = bench(config, progress)
    out = console()
    out.print(bench_table(measured.record))
    out.print(f"{shown(measured.directory)}: bench.json, bench.png", markup=False)
    return 0


def _report(command: _Report) -> int:
    from policyscope.commands.report import render, render_together
    from policyscope.runs.carried import place, shown
    from policyscope.runs.record import read_complete
    from policyscope.views.language import speaker
    from policyscope.views.offline.table import run_table
    from policyscope.views.rollout.table import rollout_table

    out = console()
    if len(command.runs) > 1 and command.model_card is None:
        page = render_together(command.runs, command.output, command.lang)
        out.print(str(page), markup=False)
        return 0
    if len(command.runs) != 1:
        raise UsageError(
            "policyscope report" + (" --model_card" if command.runs else ""),
            expected="a run directory",
            found=f"{len(command.runs)}" if command.runs else "none",
            fix="policyscope report DIR",
        )
    run = command.runs[0]
    if command.model_card is None and stored.is_sweep(run):
        return stored.sweep(run, command.lang)
    page = render(ReportConfig(run, command.report, command.lang, command.model_card))
    record = read_complete(place(run))
    say = speaker(command.lang)
    out.print(rollout_table(record, say) if record.kind == "rollout" else run_table(record, say))
    pictures = _pictures(page, command.report)
    out.print(f"{shown(page)}, beside {pictures}", markup=False)
    return 0


def _sweep(config: SweepConfig) -> int:
    quiet()
    from policyscope.commands.sweep import sweep
    from policyscope.runs.carried import shown
    from policyscope.runs.sweep import SWEEP_PAGE
    from policyscope.views.sweep.progress import SweepProgress
    from policyscope.views.sweep.table import sweep_table

    with SweepProgress(console(stderr=True)) as progress:
        swept = sweep(config, progress)
    out = console()
    out.print(sweep_table(swept.record))
    out.print(f"{shown(swept.directory / SWEEP_PAGE)}, beside sweep.json and runs/", markup=False)
    if not swept.reached:
        print(f"--until_step {config.until_step} did not come in time", file=sys.stderr)
    return 0 if swept.reached and swept.record.whole else 1


def _serve(config: ServeConfig) -> int:
    quiet()
    from policyscope.commands.serve import serve_and_say

    return serve_and_say(config, console(stderr=True))


def _convert(config: ConvertConfig) -> int:
    quiet()
    from policyscope.commands.convert import convert

    made = convert(config)
    line = f"{made}; policyscope check --dataset.root {shlex.quote(str(made))} looks at it"
    console().print(line, markup=False, soft_wrap=True)
    return 0


_RUN: dict[type, Callable[[Any], int]] = {
    DemoConfig: _demo,
    EvalConfig: _eval,
    CheckConfig: checking.check,
    BenchConfig: _bench,
    RolloutConfig: _rollout,
    CheckEnvConfig: checking.check_environment,
    _Report: _report,
    CompareConfig: stored.compare,
    PlanConfig: stored.plan,
    ImportConfig: stored.take_in,
    CorrelateConfig: stored.correlate,
    SweepConfig: _sweep,
    SchemaConfig: stored.schema,
    ConvertConfig: _convert,
    ExecuteConfig: stored.execute,
    ServeConfig: _serve,
}
