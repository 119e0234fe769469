"""Comparing runs: numbers against plain numpy and scipy, verdicts, gates, and what is refused."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import stats

import fakes
from policyscope.commands.cli import main
from policyscope.commands.compare import compare, parse_margin
from policyscope.commands.evaluate import evaluate
from policyscope.config import CompareConfig, DatasetConfig, EvalConfig, PolicyConfig
from policyscope.errors import OutputError, UsageError
from policyscope.metrics.verdicts import Verdict
from policyscope.views.compared.files import (
    MARKER,
    comparison_json,
    comparison_junit,
    comparison_markdown,
)
from policyscope.views.compared.words import verdict_line


@pytest.fixture(scope="module")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """hold_state, repeat_last and replay on the same six episodes."""
    root = tmp_path_factory.mktemp("runs")
    for kind in ("hold_state", "repeat_last", "dataset_mean"):
        evaluate(fakes.config_for(data, kind, root / kind))
    return {p.name: p for p in root.iterdir()}


def _errors(run: Path, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """[G] sums of absolute errors over the first steps, and how many, read plainly."""
    table = pq.read_table(run / "predictions.parquet").to_pandas()
    sums, counts = [], []
    for _, rows in table.groupby("episode_index"):
        total = n = 0.0
        for predicted, target, pad in zip(
            rows["predicted"], rows["target"], rows["is_pad"], strict=True
        ):
            error = np.abs(predicted - target).reshape(len(pad), -1)[:steps][~pad[:steps]]
            total, n = total + error.sum(), n + error.size
        sums.append(total)
        counts.append(n)
    return np.array(sums), np.array(counts)


def _compared(*paths: Path, **settings: Any) -> Any:
    return compare(CompareConfig(runs=tuple(map(str, paths)), **settings))


def test_paired_numbers_are_those_of_a_plain_script(runs: dict[str, Path]) -> None:
    a, b = runs["hold_state"], runs["dataset_mean"]
    comparison = _compared(a, b, metric="chunk.mae")
    row = comparison.runs[0].offline.row("chunk.mae")
    (sum_a, n), (sum_b, _) = _errors(a, 99), _errors(b, 99)
    assert float(row.paired.a) == pytest.approx(sum_a.sum() / n.sum())
    assert float(row.paired.b) == pytest.approx(sum_b.sum() / n.sum())
    ratio = sum_b.sum() / sum_a.sum()
    influence = sum_b / sum_b.sum() - sum_a / sum_a.sum()
    share = (sum_a / sum_a.sum() + sum_b / sum_b.sum()) / 2  # of all errors, in each episode
    seen = 1 - 2 * share + (share**2).sum()
    se = np.sqrt((influence**2 / seen).sum())
    freedom = 1 / (share**2).sum() - 1  # Kish's number of episodes, less one
    t = stats.t.ppf(0.975, freedom)
    assert float(row.paired.ratio) == pytest.approx(ratio)
    assert float(row.paired.ratio_low) == pytest.approx(ratio * np.exp(-t * se))
    assert float(row.paired.ratio_high) == pytest.approx(ratio * np.exp(t * se))
    assert float(row.paired.p) == pytest.approx(2 * stats.t.sf(abs(np.log(ratio)) / se, freedom))


def test_numbers_are_those_of_the_records(runs: dict[str, Path]) -> None:
    comparison = _compared(runs["hold_state"], runs["repeat_last"])
    for row in comparison.runs[0].offline.of("scope"):
        scope, metric = row.name.split(".")
        for value, run in ((row.paired.a, "hold_state"), (row.paired.b, "repeat_last")):
            known = json.loads((runs[run] / "run.json").read_text())["summary"][scope][metric]
            assert float(value) == pytest.approx(known["value"], rel=1e-9)


def test_no_verdict_without_a_test_that_rejects(runs: dict[str, Path]) -> None:
    worse = _compared(runs["hold_state"], runs["dataset_mean"]).runs[0]
    better = _compared(runs["dataset_mean"], runs["hold_state"]).runs[0]
    for compared, verdict in ((worse, Verdict.WORSE), (better, Verdict.BETTER)):
        assert compared.decision.verdict in (verdict, Verdict.UNDECIDED)
        assert (compared.decision.verdict is verdict) == (compared.decision.p < 0.05)
    assert float(worse.decision.p) == pytest.approx(float(better.decision.p))


def test_a_run_against_itself_is_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(runs["hold_state"], tmp_path / "copy")
    for other in (runs["hold_state"], tmp_path / "copy"):
        with pytest.raises(UsageError, match="two different runs"):
            _compared(runs["hold_state"], other)


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"episodes": "0:5"}, "episodes"),
        ({"stride": 2}, "stride"),
        ({"max_frames": 20}, "number of frames"),
    ],
)
def test_what_differs_is_named_and_refused(
    settings: dict[str, Any],
    what: str,
    runs: dict[str, Path],
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    evaluate(fakes.config_for(data, "repeat_last", tmp_path / "o", **settings))
    compared = _compared(runs["hold_state"], tmp_path / "o").runs[0]
    assert compared.decision.verdict is Verdict.NOT_COMPARABLE
    assert what in {d.what for d in compared.differences if d.blocking}
    with pytest.raises(SystemExit) as over:
        main(["compare", str(runs["hold_state"]), str(tmp_path / "o")])
    assert over.value.code == 2
    assert what in capsys.readouterr().out


def test_other_demonstrations_are_found_though_the_heads_agree(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(runs["repeat_last"], tmp_path / "o")
    file = tmp_path / "o" / "predictions.parquet"
    table = pq.read_table(file)
    column = table.column("target").to_pylist()
    column[0][0] += 1.0
    at = table.schema.get_field_index("target")
    pq.write_table(table.set_column(at, table.schema.field(at), [column]), file)
    with pytest.raises(OutputError, match="another demonstration of episode 0"):
        _compared(runs["hold_state"], tmp_path / "o")


def test_the_gate_in_numbers(runs: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    base, run = str(runs["hold_state"]), str(runs["repeat_last"])

    def ended(*words: str) -> int:
        with pytest.raises(SystemExit) as over:
            main(["compare", base, run, *words])
        capsys.readouterr()
        return int(over.value.code or 0)

    assert ended() == 0
    assert ended("--fail_if", "executed.mae > 1000 * base + 1000") == 0
    assert ended("--fail_if", "executed.mae >= 0") == 1
    assert ended("--margin", "1000000%") in (0, 3)
    assert ended("--fail_if", "nothing.mae > 1") == 2
    assert ended("--metric", "nothing") == 2
    assert ended("--margin", "-3") == 2


def test_the_gate_in_a_shell_script(runs: dict[str, Path], tmp_path: Path) -> None:
    """As a step of CI would run it: the job fails, and knows why by the status."""
    script = f"""
    set -eo pipefail
    gate() {{ {shlex.quote(sys.executable)} -m policyscope compare \
        {runs["hold_state"]} {runs["repeat_last"]} --format markdown --junit g.xml "$@" > g.md; }}
    gate --fail_if 'executed.mae < 0' && echo passed
    gate --fail_if 'executed.mae >= 0' || echo "status $?"
    gate --fail_if 'executed.mae.ci_high > difference.step1.mae / 0' || echo "status $?"
    """
    ran = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert ran.stdout.split("\n")[:3] == ["passed", "status 1", "status 3"], ran.stderr
    assert (tmp_path / "g.md").read_text().startswith(MARKER)
    assert ElementTree.parse(tmp_path / "g.xml").getroot().attrib["tests"] == "1"


def test_undecided_blocks_unless_the_project_says_otherwise(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("hold_state", "repeat_last"):
        evaluate(fakes.config_for(data, kind, tmp_path / kind, episodes="0:3"))
    monkeypatch.chdir(tmp_path)
    words = CompareConfig(runs=("hold_state", "repeat_last"), margin="1%")
    assert compare(words).exit == 3  # three episodes allow no test
    (tmp_path / "policyscope.toml").write_text(
        '[compare]\nundecided = "pass"\n[baselines]\nmain = "hold_state"\n'
    )
    assert compare(words).exit == 0
    named = compare(CompareConfig(runs=("repeat_last",), baseline="@main", margin="1%"))
    assert named.base.path == tmp_path / "hold_state"
    with pytest.raises(UsageError, match="@main"):
        compare(CompareConfig(runs=("repeat_last",), baseline="@other"))


def test_several_runs_share_one_error_rate(runs: dict[str, Path]) -> None:
    several = _compared(*(runs[k] for k in ("hold_state", "repeat_last", "dataset_mean")))
    alone = [
        _compared(runs["hold_state"], runs[k]).runs[0] for k in ("repeat_last", "dataset_mean")
    ]
    plain = [c.decision.p for c in alone]
    adjusted = [c.decision.p for c in several.runs]
    assert min(adjusted) == pytest.approx(min(1.0, 2 * min(plain)))
    assert max(adjusted) == pytest.approx(max(2 * min(plain), max(plain)))
    assert several.leading  # the best is among them


def test_markdown_json_and_junit(runs: dict[str, Path]) -> None:
    comparison = _compared(runs["hold_state"], runs["repeat_last"], margin="5%")
    text = comparison_markdown(comparison)
    assert text.splitlines()[0] == MARKER
    assert verdict_line(comparison, comparison.runs[0]).replace("_", "\\_") in text
    assert len(text) < 65_536
    content = json.loads(json.dumps(comparison_json(comparison), allow_nan=False))
    assert content["schema_version"] == 1
    assert len(content["base"]["sha256"]) == 64
    suite = ElementTree.fromstring(comparison_junit(comparison))
    assert suite.attrib["tests"] == "1"
    assert int(suite.attrib["failures"]) == int(comparison.exit in (1, 3))


def test_by_task_and_by_episode_are_those_of_a_plain_script(runs: dict[str, Path]) -> None:
    a, b = runs["hold_state"], runs["dataset_mean"]
    rows = _compared(a, b, metric="chunk.mae").runs[0].offline
    tables = [
        pq.read_table(r / "by_episode.parquet").to_pandas().query("scope == 'chunk'")
        for r in (a, b)
    ]
    for row, first, second in zip(
        rows.of("episode"), tables[0].itertuples(), tables[1].itertuples(), strict=True
    ):
        assert int(row.label) == first.episode_index == second.episode_index
        assert float(row.paired.a) == pytest.approx(first.mae)
        assert float(row.paired.b) == pytest.approx(second.mae)
        assert np.isnan(row.paired.ratio_low)  # one episode has no interval
    several = sorted(set(tables[0].task))
    assert [row.label for row in rows.of("task")] == (several if len(several) > 1 else [])
    for row in rows.of("task"):
        known = tables[0][tables[0].task == row.label]
        assert int(row.paired.n_episodes) == len(known)


def test_what_a_paired_t_could_have_shown() -> None:
    """A true ratio of that size is found in 80 % of simulated runs with that spread."""
    from policyscope.metrics.paired import paired_errors

    draw = np.random.default_rng(0)
    spread, n, draws = 0.1, 20, 4000
    count = np.ones((n, draws))
    base = np.ones((n, draws))
    noise = draw.normal(0, spread, size=(n, draws))
    known = paired_errors(base, np.exp(noise), count)
    told = float(np.median([known.detectable((i,)) for i in range(200)]))
    found = paired_errors(base, told * np.exp(noise), count)
    assert abs(float((found.p <= 0.05).mean()) - 0.8) < 0.03
    same = paired_errors(base, 2 * base, count)
    assert same.detectable((0,)) is None  # no spread, nothing to go by


def test_runs_of_two_kinds_are_one_line(
    runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from policyscope.commands.rollout import rollout
    from test_rollout import Seeker, config

    rollout(config(tmp_path / "r", n_episodes=2), policy=Seeker())
    for words in (
        ["report", str(runs["hold_state"]), str(tmp_path / "r"), "--output", str(tmp_path / "p")],
        ["compare", str(tmp_path / "r"), str(runs["hold_state"]), "--html", str(tmp_path / "p")],
    ):
        with pytest.raises(SystemExit) as over:
            main(words)
        assert over.value.code == 2
        told = capsys.readouterr().err.strip()
        assert "\n" not in told
        assert "an evaluation" in told
        assert "a rollout" in told
        assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("text", ["5 %", "0.5", "0", "12.5%"])
def test_margins(text: str) -> None:
    limit = parse_margin(text, "offline")
    assert limit.relative == text.endswith("%")
    assert parse_margin(text, "rollout").relative is False


@pytest.mark.parametrize("text", ["", "x", "-1", "1e400", "nan", "5%%", "1" * 400 + "x"])
def test_no_margin(text: str) -> None:
    with pytest.raises(UsageError, match="--margin"):
        parse_margin(text, "offline")


def _late(run: Path, out: Path) -> Path:
    """The same run, each prediction one frame late."""
    shutil.copytree(run, out)
    file = out / "predictions.parquet"
    table = pq.read_table(file)
    first = np.flatnonzero(np.diff(table.column("episode_index").to_numpy(), prepend=-1))
    before = np.arange(len(table)) - 1
    before[first] = first
    at = table.schema.get_field_index("predicted")
    late = table.column("predicted").take(before)
    pq.write_table(table.set_column(at, table.schema.field(at), late), file)
    record = json.loads((out / "run.json").read_text())
    record["policy"]["sha256"] = "0" * 64
    (out / "run.json").write_text(json.dumps(record))
    return out


@pytest.mark.slow
def test_one_frame_late_is_worse_by_the_paired_test_alone(shared: Path, tmp_path: Path) -> None:
    """Of the small SmolVLA on 21 episodes: two unpaired intervals overlap."""
    run = evaluate(
        EvalConfig(
            policy=PolicyConfig(path=str(shared / "checkpoints" / "smolvla-pusht-small")),
            dataset=DatasetConfig(
                repo_id="lerobot/pusht",
                root=str(shared / "datasets" / "pusht"),
                episodes="185:206",
            ),
            output_dir=str(tmp_path / "a"),
            latency_calls=0,
        )
    )
    late = _late(run.directory, tmp_path / "b")
    compared = _compared(run.directory, late, metric="chunk.mae").runs[0]
    cell = compared.offline.row("chunk.mae").paired
    assert compared.decision.verdict is Verdict.WORSE
    assert int(cell.n_episodes) == 21
    assert 1.03 < float(cell.ratio) < 1.09
    alone = run.record["summary"]["chunk"]["mae"]
    assert float(cell.b) < alone["ci_high"]  # which an unpaired look would have passed over
