"""Which offline number foretells success: pairing, refusals, words, files and the picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

import fakes
from policyscope.commands.cli import main
from policyscope.commands.correlate import correlate
from policyscope.commands.evaluate import evaluate
from policyscope.commands.importing import import_run
from policyscope.config import CorrelateConfig, ImportConfig
from policyscope.errors import UsageError
from policyscope.metrics.offline_numbers import offline_numbers
from policyscope.runs.content import Complete, OfflineRecord
from policyscope.runs.record import dump_record, read_complete

N = 30
RATES = (0.0, 0.1, 0.2, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9)


def write(record: Complete, where: Path, **policy: Any) -> None:
    where.mkdir(parents=True)
    who = record.policy.model_copy(update=policy)
    (where / "run.json").write_text(dump_record(record.model_copy(update={"policy": who})))


def scaled(record: OfflineRecord, factor: float) -> OfflineRecord:
    """The same run with every executed error so many times as large."""
    executed = record.summary.executed
    known = {
        name: getattr(executed, name).model_copy(
            update={"value": getattr(executed, name).value * factor}
        )
        for name in ("mae", "mse", "nmae", "nmse")
    }
    summary = record.summary.model_copy(update={"executed": executed.model_copy(update=known)})
    return record.model_copy(update={"summary": summary})


def rollout_of(rate: float, where: Path) -> Complete:
    won = [i < round(rate * N) for i in range(N)]
    metrics = {
        "successes": won,
        "max_rewards": [0.5 + 0.5 * w for w in won],
        "sum_rewards": [1.0] * N,
    }
    file = where / "eval_info.json"
    file.write_text(
        json.dumps({"per_task": [{"task_group": "pusht", "task_id": 0, "metrics": metrics}]})
    )
    asked = ImportConfig(str(file), seed=1000, output_dir=str(where / "made"), overwrite=True)
    return import_run(asked).record


@pytest.fixture(scope="module")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine checkpoints of two types whose executed error falls as their success rises."""
    root = tmp_path_factory.mktemp("study")
    base = evaluate(fakes.config_for(data, "hold_state", root / "base")).record
    scratch = tmp_path_factory.mktemp("scratch")
    for i, rate in enumerate(RATES):
        policy = {"sha256": f"{i:064x}", "type": "act" if i % 2 else "diffusion"}
        write(scaled(base, 2 - rate), root / "runs" / f"eval-c{i}", **policy)
        write(rollout_of(rate, scratch), root / "runs" / f"rollout-c{i}", **policy)
    return root / "runs"


def study(*paths: Path, **settings: Any) -> Any:
    return correlate(CorrelateConfig(tuple(map(str, paths)), draws=200, **settings))


def test_a_number_that_falls_as_success_rises_foretells_it(runs: Path) -> None:
    found = study(runs)
    assert [pair.name for pair in found.pairing.pairs] == [f"c{i}" for i in range(9)]
    assert {pair.how for pair in found.pairing.pairs} == {"weights"}
    assert {look.group for look in found.looks} == {"all", "within types", "act", "diffusion"}
    look = found.look("success")
    k = found.names.index("executed.mae")
    known = look.found.spearman[k]
    assert known.value == pytest.approx(1.0)
    assert known.p == pytest.approx(1 / 4001)
    assert look.words[k] == "foretells"
    errors = [numbers[k].value for numbers in found.numbers]
    assert look.found.pearson[k].value == pytest.approx(-stats.pearsonr(errors, RATES).statistic)
    # the chunk's error is the same for all: nobody can say anything of it
    assert look.found.spearman[found.names.index("chunk.mae")].value is None
    assert look.words[found.names.index("chunk.mae")] == "undecided"


def test_words_need_the_test_over_all_numbers(runs: Path) -> None:
    """Four perfectly ordered checkpoints are chance one time in twelve: no claim."""
    four = [runs / f"{kind}-c{i}" for kind in ("eval", "rollout") for i in range(4)]
    found = study(*four)
    k = found.names.index("executed.mae")
    look = found.look("success")
    assert look.found.spearman[k].value == pytest.approx(1.0)
    assert set(look.words) == {"undecided"}


def test_runs_without_a_partner_are_said(runs: Path) -> None:
    some = [runs / f"eval-c{i}" for i in range(6)] + [runs / f"rollout-c{i}" for i in range(5)]
    found = study(*some)
    assert [(path.name, why) for path, why in found.pairing.alone] == [
        ("eval-c5", "no rollout of this checkpoint")
    ]


def test_names_and_pairs_where_no_hash_tells(runs: Path, tmp_path: Path) -> None:
    for i in range(5):
        for kind in ("eval", "rollout"):
            record = read_complete(runs / f"{kind}-c{i}")
            name = f"{kind}-c{i}" if i else f"{kind}-{kind[0]}0"
            write(record, tmp_path / name, sha256=None)
    assert len(study(tmp_path).pairing.pairs) == 4
    asked = study(tmp_path, pairs=("eval-e0=rollout-r0",))
    assert sorted(pair.how for pair in asked.pairing.pairs) == ["as asked", *["name"] * 4]
    with pytest.raises(UsageError, match="0 of nowhere"):
        study(tmp_path, pairs=("nowhere=rollout-r0",))


def test_what_makes_no_study_is_refused(runs: Path, tmp_path: Path) -> None:
    three = [runs / f"{kind}-c{i}" for kind in ("eval", "rollout") for i in range(3)]
    with pytest.raises(UsageError, match=r"at least 4 checkpoints.*found 3, and 1 runs"):
        study(*three, runs / "eval-c5")
    with pytest.raises(UsageError, match="expected run directories"):
        CorrelateConfig()
    first = read_complete(runs / "eval-c0")
    other = first.dataset.model_copy(update={"revision": "another"})
    policy = {"sha256": f"{0:064x}", "type": "act"}
    write(first.model_copy(update={"dataset": other}), tmp_path / "eval-c0", **policy)
    with pytest.raises(UsageError, match="one offline run of each checkpoint"):
        study(runs, tmp_path)
    rest = [p for p in runs.iterdir() if p.name != "eval-c0"]
    with pytest.raises(UsageError, match="the dataset of"):
        study(*rest, tmp_path)


def test_the_numbers_of_a_record(runs: Path) -> None:
    record = read_complete(runs / "eval-c0")
    assert isinstance(record, OfflineRecord)
    known = offline_numbers(record)
    assert known["executed.mae"].value == record.summary.executed.mae.value
    assert known["executed.mae"].score == -known["executed.mae"].value
    least = min(s.step1.value for s in record.skill.values() if s.step1.value is not None)
    assert known["step1.skill"].value == least
    assert known["step1.skill"].better == "higher"


def test_frames_that_matter_are_numbers_of_their_own(data: Path, tmp_path: Path) -> None:
    config = fakes.config_for(data, "hold_state", tmp_path / "run", critical="slow")
    record = evaluate(config).record
    [window] = record.critical
    known = offline_numbers(record)
    assert window.summary is not None
    assert known["critical.slow.nmae"].value == window.summary.executed.nmae.value
    skills = [skill.executed.value for skill in window.skill.values()]
    assert known["critical.slow.skill"].value == min(s for s in skills if s is not None)
    assert known["critical.slow.skill"].better == "higher"


def test_what_the_command_prints(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = {}
    picture = tmp_path / "study.png"
    for form, more in (
        ("text", ["--lang", "zh"]),
        ("json", []),
        ("markdown", ["--picture", str(picture)]),
    ):
        with pytest.raises(SystemExit) as end:
            main(["correlate", str(runs), "--draws", "100", "--format", form, *more])
        assert end.value.code == 0
        said[form] = capsys.readouterr().out
    assert "成功率" in said["text"]
    content = json.loads(said["json"])
    assert content["schema_version"] == 1
    assert len(content["checkpoints"]) == 9
    assert content["checkpoints"][0]["outcomes"]["success"] == RATES[0]
    assert "| `executed.mae` | lower |" in said["markdown"]
    assert "foretell it" in said["markdown"]
    assert picture.stat().st_size > 10_000
