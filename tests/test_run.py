"""The run directory: what is written, what a reader gets back, how a run goes on."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import fakes
from policyscope.commands.check import check
from policyscope.commands.evaluate import evaluate
from policyscope.commands.report import ReportConfig, render
from policyscope.config import PageConfig
from policyscope.engine.offline import Assembly, Clock, plan_frames, predict_rows, rows_of
from policyscope.engine.progress import Watch
from policyscope.errors import Finding, OutputError, UsageError
from policyscope.metrics.packed import unpack
from policyscope.metrics.scorecard import Scorecard
from policyscope.policies.builtin import ReplayPolicy
from policyscope.policies.split import held_out, label, trained_on
from policyscope.runs import tables
from policyscope.runs.arrays import read_arrays
from policyscope.runs.content import FindingRow
from policyscope.runs.directory import RunDirectory
from policyscope.runs.record import dump_record, parse_record, read_record
from policyscope.runs.rows import DimRow

SCOPES = ("step1", "chunk", "executed")


def test_replay_scores_exactly_zero(data: Path, tmp_path: Path) -> None:
    record = evaluate(fakes.config_for(data, "replay", tmp_path / "o")).record
    for scope in SCOPES:
        for metric in ("mae", "mse", "rmse", "nmae", "nmse"):
            assert record["summary"][scope][metric]["value"] == 0.0
        assert record["skill"]["hold_state"][scope]["value"] == 1.0
    assert record["similarity"]["ade"]["value"] == 0.0
    assert record["similarity"]["path_length_ratio"]["value"] == pytest.approx(1.0)


@pytest.mark.parametrize("c", [0.5, -3.25])
def test_replay_plus_a_constant_scores_the_constant(c: float, data: Path, tmp_path: Path) -> None:
    from policyscope.metrics import mae, mse

    source = check(fakes.config_for(data, "replay", tmp_path / "o")).source
    policy = ReplayPolicy(source, dims=(0, 1), horizon=6, offset=c)
    plan = plan_frames(source, tuple(range(6)), max_frames=None)
    parts = predict_rows(
        policy, source, rows_of(plan, 1), batch_size=4, clock=Clock(), progress=Watch()
    )
    assembly = Assembly(plan, 1)
    for found in (whole for part in parts for whole in assembly.add(part)):
        target, pad = source.episode(found.index).chunks(6)
        assert mae(found.predicted[0], target, pad) == pytest.approx([abs(c)] * 2, rel=1e-12)
        assert mse(found.predicted[0], target, pad) == pytest.approx([c * c] * 2, rel=1e-12)


@pytest.mark.parametrize("kind", ["hold_state", "repeat_last", "dataset_mean"])
def test_builtins_score_as_their_baselines(kind: str, data: Path, tmp_path: Path) -> None:
    record = evaluate(fakes.config_for(data, kind, tmp_path / "o")).record
    for scope in SCOPES:
        assert record["summary"][scope] == record["baselines"][kind][scope]
        assert record["skill"][kind][scope]["value"] == pytest.approx(0.0)


def test_baselines_by_hand(data: Path, tmp_path: Path) -> None:
    config = fakes.config_for(data, "repeat_last", tmp_path / "o", episodes="0")
    record = evaluate(config).record
    episode = check(config).source.episode(0)
    actions, state = episode.actions.values, episode.state
    assert state is not None
    repeat = np.concatenate([state[:1], actions[:-1]])
    assert record["summary"]["step1"]["mae"]["value"] == pytest.approx(
        np.abs(repeat - actions).mean()
    )
    step3 = record["by_horizon"][2]
    error = np.abs(state[: len(actions) - 2] - actions[2:])
    assert step3["hold_state_mae"] == pytest.approx(error.mean())
    assert step3["n_frames"] == len(actions) - 2


def test_delta_actions_have_a_zero_baseline(data: Path, tmp_path: Path) -> None:
    config = fakes.config_for(data, "repeat_last", tmp_path / "o", action_kind="delta")
    record = evaluate(config).record
    assert set(record["baselines"]) == {"repeat_last", "zero", "dataset_mean"}
    assert record["actions"]["kind"] == "delta"


def test_files_and_parquet_schema(data: Path, act: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    run = evaluate(fakes.config_for(data, act, out, episodes="4,1"))
    files = [
        ".policyscope",
        ".policyscope.lock",
        "by_episode.parquet",
        "clips.parquet",
        "predictions.parquet",
        "run.json",
        "sums.safetensors",
    ]
    assert sorted(p.name for p in out.iterdir()) == files
    card = Scorecard.of(unpack(*read_arrays(out / "sums.safetensors")))
    assert card.summary() == run.record["summary"]
    assert card.by_horizon() == run.record["by_horizon"]
    assert run.record == read_record(out)
    table = pq.read_table(out / "predictions.parquet")
    assert table.column_names == [
        "episode_index",
        "frame_index",
        "sample",
        "predicted",
        "target",
        "is_pad",
        "model_call_s",
    ]
    meta = json.loads(table.schema.metadata[b"policyscope"])
    assert meta["space"] == "native"
    assert meta["units"] == ["px", "px"]
    assert meta["stats_id"] == run.record["actions"]["normalization"]["stats_id"]
    assert table.column("episode_index").unique().to_pylist() == [1, 4]
    assert len(table) == 12 + 8
    assert all(len(row) == meta["horizon"] * 2 for row in table.column("predicted").to_pylist())
    # the numbers in the record are those of the file, read by somebody else
    predicted = np.array(table.column("predicted").to_pylist()).reshape(-1, 6, 2)
    target = np.array(table.column("target").to_pylist()).reshape(-1, 6, 2)
    real = ~np.array(table.column("is_pad").to_pylist())
    mae = np.abs(predicted - target)[real].mean()
    assert run.record["summary"]["chunk"]["mae"]["value"] == pytest.approx(mae)


def test_max_frames_takes_the_first(data: Path, tmp_path: Path) -> None:
    record = evaluate(fakes.config_for(data, "hold_state", tmp_path / "o", max_frames=12)).record
    assert record["dataset"]["n_frames"] == 12
    assert record["dataset"]["episodes"] == [0, 1]


def test_a_run_is_not_overwritten_unasked(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    evaluate(fakes.config_for(data, "hold_state", out))
    (out / "mine.txt").write_text("keep me")
    before = (out / "run.json").read_bytes()
    with pytest.raises(OutputError, match="--overwrite"):
        evaluate(fakes.config_for(data, "repeat_last", out))
    assert (out / "run.json").read_bytes() == before
    run = evaluate(fakes.config_for(data, "repeat_last", out, overwrite=True))
    assert run.record["policy"]["type"] == "repeat_last"
    assert (out / "mine.txt").read_text() == "keep me"
    with pytest.raises(OutputError, match="same seed"):
        evaluate(fakes.config_for(data, "repeat_last", out, resume=True, seed=9))
    (tmp_path / "c").mkdir()
    shutil.copy(out / "predictions.parquet", tmp_path / "c")
    with pytest.raises(OutputError, match="predictions without one"):  # nothing is lost
        evaluate(fakes.config_for(data, "repeat_last", tmp_path / "c", resume=True))
    assert (tmp_path / "c" / "predictions.parquet").exists()
    again = evaluate(fakes.config_for(data, "repeat_last", out, resume=True))
    assert again.record == run.record  # finished: nothing to do


class Stop(Watch):
    """Interrupts a run after so many frames, as Ctrl-C would."""

    def __init__(self, after: int) -> None:
        self.left = after
        self.frames = 0

    def advance(self, n_frames: int) -> None:
        self.frames += n_frames
        self.left -= n_frames
        if self.left < 0:
            raise KeyboardInterrupt


def test_an_interrupted_run_goes_on_to_the_same_numbers(
    data: Path, act: Path, tmp_path: Path
) -> None:
    whole = evaluate(fakes.config_for(data, act, tmp_path / "whole", batch_size="4")).record
    out = tmp_path / "o"
    with pytest.raises(KeyboardInterrupt, match=str(out)):
        evaluate(fakes.config_for(data, act, out, batch_size="4"), Stop(30))
    partial = read_record(out)
    assert partial["status"] == "partial"
    assert "summary" not in partial.to_json()
    done = RunDirectory(out).finished()
    assert 0 < len(done) < 6
    with pytest.raises(OutputError, match="--resume"):
        evaluate(fakes.config_for(data, act, out))
    with pytest.raises(OutputError, match="same seed"):
        evaluate(fakes.config_for(data, act, out, seed=1, resume=True))
    watch = Stop(10_000)
    resumed = evaluate(fakes.config_for(data, act, out, batch_size="4", resume=True), watch).record
    assert resumed["throughput"]["n_frames"] < 57  # finished episodes were not predicted again
    varying = ("latency", "throughput", "environment")
    ours, theirs = (
        {k: v for k, v in record.to_json().items() if k not in varying}
        for record in (whole, resumed)
    )
    assert ours == theirs


def test_a_resumed_run_never_mixes_processors(data: Path, act: Path, tmp_path: Path) -> None:
    """Begun with --force on a broken checkpoint, which is then mended."""
    from policyscope.errors import RefusedError
    from test_refusals import without_action_stats

    policy, out = tmp_path / "p", tmp_path / "o"
    shutil.copytree(act, policy)
    without_action_stats(policy)
    with pytest.raises(KeyboardInterrupt):
        evaluate(fakes.config_for(data, policy, out, batch_size="4", force=True), Stop(30))
    done = RunDirectory(out).finished()
    with pytest.raises(RefusedError):
        evaluate(fakes.config_for(data, policy, out, batch_size="4", resume=True))
    assert RunDirectory(out).finished() == done  # a refusal costs nothing
    shutil.rmtree(policy)
    shutil.copytree(act, policy)
    with pytest.raises(OutputError, match="same forced"):
        evaluate(fakes.config_for(data, policy, out, batch_size="4", resume=True))


def test_a_full_disk_is_one_line_and_resumable(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    out = tmp_path / "o"
    with monkeypatch.context() as patched:
        patched.setattr(pq, "write_table", full)
        with pytest.raises(OutputError, match="make room"):
            evaluate(fakes.config_for(data, "hold_state", out))
    evaluate(fakes.config_for(data, "hold_state", out, resume=True))


@pytest.mark.parametrize("most", [0, 8_000, 1 << 22])
def test_however_many_episodes_share_a_row_group_they_are_read_one_by_one(
    most: int, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Earlier versions gave each a group of its own; a group never ends within an episode."""
    monkeypatch.setattr(tables, "_GROUP_BYTES", most)
    out = evaluate(fakes.config_for(data, "hold_state", tmp_path / "o")).directory
    with pq.ParquetFile(out / "predictions.parquet") as file:
        groups = [file.read_row_group(i) for i in range(file.num_row_groups)]
    inside = [set(group.column("episode_index").to_pylist()) for group in groups]
    assert sum(map(len, inside)) == 6
    assert (len(groups) == 6) is (most == 0)
    assert (len(groups) == 1) is (most > 8_000)
    whole = pq.read_table(out / "predictions.parquet").to_pylist()
    stored = list(RunDirectory(out).stored())
    assert [len(s.frame_index) for s in stored] == [9, 12, 7, 10, 8, 11]
    seen = np.concatenate([s.predicted[0].values for s in stored])
    assert np.array_equal(seen.reshape(len(whole), -1), [row["predicted"] for row in whole])


def test_half_written_files_are_never_read(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    with pytest.raises(KeyboardInterrupt):
        evaluate(fakes.config_for(data, "hold_state", out, batch_size="4"), Stop(30))
    (out / "parts" / ".episode-000005.parquet.tmp").write_bytes(b"half")
    assert 5 not in RunDirectory(out).finished()
    evaluate(fakes.config_for(data, "hold_state", out, batch_size="4", resume=True))


def test_report_renders_the_same_bytes_without_policy_or_data(
    data: Path, act: Path, tmp_path: Path
) -> None:
    policy, root, out = tmp_path / "p", tmp_path / "d", tmp_path / "o"
    shutil.copytree(act, policy)
    shutil.copytree(data, root)
    evaluate(fakes.config_for(root, policy, out, latency_calls=4))
    shutil.rmtree(policy)
    shutil.rmtree(root)
    render(ReportConfig(str(out)))
    first = (out / "report.png").read_bytes()
    page = (out / "report.html").read_bytes()
    render(ReportConfig(str(out)))
    assert first == (out / "report.png").read_bytes()
    assert page == (out / "report.html").read_bytes()
    assert first.startswith(b"\x89PNG")
    width, height = (int.from_bytes(first[i : i + 4], "big") for i in (16, 20))
    assert (width, height) == (1600, 1000)


def test_pictures_have_the_formats_that_were_asked_for(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    evaluate(fakes.config_for(data, "repeat_last", out))
    asked = ReportConfig(str(out), PageConfig(formats="svg,pdf,svg"))
    begins = {"svg": b"<?xml", "pdf": b"%PDF"}
    render(asked)
    first = {kind: (out / f"report.{kind}").read_bytes() for kind in begins}
    assert all(first[kind].startswith(begin) for kind, begin in begins.items())
    assert not (out / "report.png").exists()
    render(asked)  # replaces its own, with the same bytes
    assert first == {kind: (out / f"report.{kind}").read_bytes() for kind in begins}
    (out / "report.pdf").write_bytes(b"%PDF of somebody")
    with pytest.raises(OutputError, match="nothing here was touched"):
        render(asked)
    with pytest.raises(UsageError, match=r"--report\.formats gif.*png, svg, pdf"):
        PageConfig(formats="gif")


def test_chinese_files_stand_beside_english_ones(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from policyscope.views import figure

    out = tmp_path / "o"
    evaluate(fakes.config_for(data, "repeat_last", out))
    page = render(ReportConfig(str(out), lang="zh"))
    assert page == out / "report.zh.html"
    assert 'lang="zh-Hans"' in page.read_text()
    assert 'lang="en"' in (out / "report.html").read_text()
    monkeypatch.setattr(figure, "_with_glyphs", list)
    with figure.canvas("zh") as (_, say, note):
        assert say("Verdict") == "Verdict"
        assert "no font with Chinese glyphs" in note
    evaluate(fakes.config_for(data, "repeat_last", out, overwrite=True))
    assert not page.exists()  # of the run before


@pytest.mark.parametrize("dim", [1, 3, 26])
def test_any_number_of_dims_is_drawn(dim: int, tmp_path: Path) -> None:
    names = [f"$joint_{i}$ <b>[red]" for i in range(dim)]  # hostile to every renderer
    root = fakes.write_dataset(tmp_path / "d", dim=dim, names=names, cameras=())
    evaluate(fakes.config_for(root, "repeat_last", tmp_path / "o"))
    assert render(ReportConfig(str(tmp_path / "o"))).stat().st_size > 10_000


def test_names_and_tasks_are_shown_literally(tmp_path: Path) -> None:
    from rich.console import Console

    from policyscope.views.offline.table import run_table

    names = ["[bold]x[/bold]", "[link=file:///]y", "<script>alert(1)</script>"]
    tasks = ("<img src=x onerror=alert(2)>",)
    root = fakes.write_dataset(tmp_path / "d", dim=3, names=names, cameras=(), tasks=tasks)
    record = evaluate(fakes.config_for(root, "repeat_last", tmp_path / "o")).record
    boo = FindingRow.of(Finding("x", "error", "[red]boo[/red]", "[fix]"))
    record = record.model_copy(update={"findings": [*record.findings, boo]})
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(run_table(record))
    shown = console.export_text()
    for text in (*names, "[red]boo[/red]", "[fix]"):
        assert text in shown
    page = render(ReportConfig(str(tmp_path / "o"))).read_text()
    assert "&lt;script&gt;alert(1)" in page
    assert "&lt;img src=x" in page
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert not re.search(r"(?:src|href)=.?https?:", page)  # nothing to fetch


def test_the_schema_refuses_what_scripts_could_not_read(data: Path, tmp_path: Path) -> None:
    whole = evaluate(fakes.config_for(data, "hold_state", tmp_path / "o")).record
    record = whole.to_json()
    for broken in (
        {k: v for k, v in record.items() if k != "summary"},
        {**record, "status": "refused"},  # a refused run has no summary
        {**record, "schema_version": 99},
        {**record, "kind": "guess"},
    ):
        with pytest.raises(OutputError):
            parse_record(broken)
    row = whole.by_dim[0].model_dump() | {"nmae": float("nan"), "skill_hold_state": float("inf")}
    undefined = [DimRow.model_validate(row), *whole.by_dim[1:]]
    text = dump_record(whole.model_copy(update={"by_dim": undefined}))
    assert '"nmae": null' in text
    assert '"skill_hold_state": null' in text


def test_split_follows_the_recorded_training(data: Path, act: Path, tmp_path: Path) -> None:
    policy = tmp_path / "p"
    shutil.copytree(act, policy)
    for recorded, seen, chosen, name in (
        ({"repo_id": "fake/data", "episodes": [0, 1, 2]}, {0, 1, 2}, (3, 4, 5), "held_out"),
        # two tasks of three episodes each: the last one of each is held out
        ({"repo_id": "fake/data", "eval_split": 0.3}, {0, 1, 2, 3}, (4, 5), "held_out"),
        ({"repo_id": "fake/data"}, set(range(6)), tuple(range(6)), "in_sample"),
        ({"repo_id": "other/data"}, None, tuple(range(6)), "unknown"),
    ):
        (policy / "train_config.json").write_text(json.dumps({"dataset": recorded}))
        inputs = check(fakes.config_for(data, policy, tmp_path / "o"))
        assert inputs.trained == seen
        assert inputs.episodes == chosen == held_out(inputs.trained, range(6))
        assert label(inputs.trained, inputs.episodes) == name
    assert trained_on(None, inputs.source.facts) is None


def test_units_come_from_the_robot_or_the_user(tmp_path: Path) -> None:
    root = fakes.write_dataset(
        tmp_path / "d", names=["left_waist", "left_gripper"], robot_type="aloha", cameras=()
    )
    config = fakes.config_for(root, "hold_state", tmp_path / "o", action_units=None)
    assert check(config).source.facts.robot.actions.units == ("rad", "0-1")
    config = fakes.config_for(root, "hold_state", tmp_path / "o", action_units="deg,m")
    assert check(config).source.facts.robot.actions.units == ("deg", "m")
    plain = fakes.write_dataset(tmp_path / "e", cameras=())
    config = fakes.config_for(plain, "hold_state", tmp_path / "o", action_units=None)
    inputs = check(config)
    assert inputs.source.facts.robot.actions.units == ("native", "native")
    assert "units_undeclared" in [f.code for f in inputs.findings]
