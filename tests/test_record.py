"""The record of a run: typed, small, checked at the door, and readable in a later version."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

import fakes
from policyscope.commands.evaluate import evaluate
from policyscope.commands.report import ReportConfig, render, render_together
from policyscope.commands.rollout import rollout
from policyscope.commands.session import Run
from policyscope.errors import OutputError
from policyscope.runs import episodes
from policyscope.runs.content import OfflineRecord, RolloutRecord
from policyscope.runs.directory import require_same_plan
from policyscope.runs.episodes import episode_rows, rollout_rows
from policyscope.runs.parts import Episodes, spans
from policyscope.runs.plans import upgraded_plan
from policyscope.runs.record import dump_record, parse_record, read_record, schema
from policyscope.runs.rows import EpisodeRow, EpisodeTable
from policyscope.runs.schema import FILE, generated
from test_rollout import Seeker, config
from test_views import embedded

OLD = Path(__file__).with_name("data")


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run[OfflineRecord]:
    return evaluate(fakes.config_for(data, "repeat_last", tmp_path_factory.mktemp("record") / "o"))


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Run[RolloutRecord]:
    out = tmp_path_factory.mktemp("record") / "r"
    return rollout(config(out, n_episodes=5, video="1"), policy=Seeker(broken_at=(1001, 3)))


# ── what is written ───────────────────────────────────────────────────


def test_the_schema_that_ships_is_generated_from_the_types() -> None:
    assert FILE.read_text(encoding="utf-8") == generated()


def test_what_we_write_conforms_and_holds_nothing_unknown(
    run: Run[OfflineRecord], closed: Run[RolloutRecord]
) -> None:
    for one in (run, closed):
        content = json.loads((one.directory / "run.json").read_text())
        jsonschema.validate(content, schema())
        assert read_record(one.directory).to_json() == content  # a key without a field is dropped
        assert content["schema_version"] == 2
        assert list(content)[:3] == ["schema_version", "kind", "status"]


def test_the_schema_knows_what_is_missing(run: Run[OfflineRecord]) -> None:
    content = json.loads((run.directory / "run.json").read_text())
    for broken in (
        {key: value for key, value in content.items() if key != "summary"},
        content | {"status": "refused"},
        content | {"schema_version": 1},
        content | {"by_dim": [{**content["by_dim"][0], "skill_hold_state": "much"}]},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, schema())


def test_episodes_are_a_table_beside_the_record(run: Run[OfflineRecord]) -> None:
    table = pq.read_table(run.directory / "by_episode.parquet")
    content = json.loads((run.directory / "run.json").read_text())["by_episode"]
    assert content["file"] == "by_episode.parquet"
    assert content["n_episodes"] == 6
    assert table.num_rows == 6 * 3
    for scope in ("step1", "chunk", "executed"):
        rows = [row for row in table.to_pylist() if row["scope"] == scope]
        assert [row.to_json() for row in episode_rows(run.directory, run.record, scope)] == rows
        order = sorted(rows, key=lambda row: (row["mae"], row["episode_index"]))
        for name, row in (("best", order[0]), ("median", order[3]), ("worst", order[-1])):
            assert content[scope][name] == row
            assert content[scope]["metric"] == "mae"


def test_a_record_is_small_however_many_episodes_there_are(run: Run[OfflineRecord]) -> None:
    (first, *_) = episode_rows(run.directory, run.record)
    rows = [
        first.model_copy(update={"episode_index": e, "scope": scope})
        for scope in ("step1", "chunk", "executed")
        for e in range(3296)
    ]
    data = run.record.dataset.model_copy(update={"episodes": range(3296)})
    table = EpisodeTable.of(rows, file="by_episode.parquet")
    record = run.record.model_copy(update={"by_episode": table, "dataset": data})
    assert len(dump_record(record)) < 100_000


def test_a_long_closed_loop_run_lists_its_episodes_beside_the_record(
    closed: Run[RolloutRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(episodes, "MOST_IN_RECORD", 4)
    asked = config(tmp_path / "o", n_episodes=5, video="1")
    long = rollout(asked, policy=Seeker(broken_at=(1001, 3)))
    assert long.record.episodes == []
    assert long.record.n_episodes == 5

    def content(one: Run[RolloutRecord]) -> list[dict[str, Any]]:
        rows = rollout_rows(one.directory, one.record)
        return [{**row.to_json(), "sim_s": 0} for row in rows]

    assert content(long) == content(closed)
    assert render(ReportConfig(str(long.directory))).is_file()
    assert "seed 1004" in (long.directory / "report.html").read_text()


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.integers(0, 10**6), max_size=40))
def test_spans_are_what_the_flag_takes_and_come_back(indices: list[int]) -> None:
    text = spans(indices)
    assert TypeAdapter(Episodes).validate_python(text) == indices
    assert text == ",".join(str(e) for e in indices) or ":" in text


def test_consecutive_episodes_are_a_slice() -> None:
    assert spans([185, 186, 187, 3, 9, 10]) == "185:188,3,9:11"
    assert spans([]) == ""
    assert spans(range(100_000)) == "0:100000"


# ── what is read ──────────────────────────────────────────────────────


def test_scripts_may_subscript_a_record_like_its_json(run: Run[OfflineRecord]) -> None:
    content = json.loads((run.directory / "run.json").read_text())
    record = run.record
    assert record["summary"]["chunk"]["mae"]["value"] == record.summary.chunk.mae.value
    assert record["summary"]["chunk"]["mae"]["value"] == content["summary"]["chunk"]["mae"]["value"]
    assert record["by_horizon"][2]["hold_state_mae"] == content["by_horizon"][2]["hold_state_mae"]
    with pytest.raises(KeyError, match="hopes"):
        record["hopes"]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"schema_version": 3}, "schema_version"),
        ({"summary": None}, r"\$\.summary"),
        ({"forced": "yes"}, r"\$\.forced"),
        ({"by_episode": []}, r"by_episode"),
        ({"findings": [{"code": "x"}]}, r"findings\.0\.severity"),
        ({"status": "finished"}, "status"),
        ({"by_dim": []}, "each action dim"),
        ({"by_horizon": []}, "each step"),
        ({"skill": {}}, "each baseline"),
    ],
)
def test_a_broken_record_is_one_line(
    change: dict[str, Any], match: str, run: Run[OfflineRecord]
) -> None:
    with pytest.raises(OutputError, match=match) as error:
        parse_record(run.record.to_json() | change)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("episodes", ["0:99999999999", "5:2", "x", "1;2", "0:1:2", "-1", "², 3"])
def test_episodes_are_bounded(episodes: str, run: Run[OfflineRecord]) -> None:
    content = run.record.to_json()
    content["dataset"]["episodes"] = episodes
    with pytest.raises(OutputError, match=r"dataset\.episodes"):
        parse_record(content)


def test_a_video_lies_in_the_run(closed: Run[RolloutRecord]) -> None:
    content = closed.record.to_json()
    assert content["episodes"][0]["video"] == "videos/000000.mp4"
    content["episodes"][0]["video"] = "../../secret.mp4"
    with pytest.raises(OutputError, match="video"):
        parse_record(content)


def test_keys_of_a_later_version_are_passed_over(run: Run[OfflineRecord]) -> None:
    content = run.record.to_json() | {"mood": "good"}
    content["policy"]["colour"] = "blue"
    assert parse_record(content) == run.record


def test_a_missing_or_foreign_table_is_one_line(run: Run[OfflineRecord], tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run.directory, copy)
    table = copy / "by_episode.parquet"
    whole = pq.read_table(table)
    pq.write_table(whole.slice(0, 8), table)
    with pytest.raises(OutputError, match=r"by_episode\.parquet: expected the 6 episodes"):
        render(ReportConfig(str(copy)))
    pq.write_table(whole.drop_columns(["n_frames"]), table)
    with pytest.raises(OutputError, match="expected the episodes of a run"):
        render(ReportConfig(str(copy)))
    table.unlink()
    with pytest.raises(OutputError, match=r"by_episode\.parquet"):
        render(ReportConfig(str(copy)))


# ── runs of version 0.1 ───────────────────────────────────────────────


def old(kind: str, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A run that version 0.1 wrote, and what its record holds."""
    path = tmp_path / kind
    shutil.copytree(OLD / f"run-0.1-{kind}", path)
    content: dict[str, Any] = json.loads((path / "run.json").read_text())
    assert content["schema_version"] == 1
    return path, content


def test_an_offline_run_of_0_1_is_read_and_rendered(
    run: Run[OfflineRecord], tmp_path: Path
) -> None:
    path, content = old("offline", tmp_path)
    record = read_record(path)
    assert isinstance(record, OfflineRecord)
    new = record.to_json()
    for key in ("summary", "baselines", "skill", "by_horizon", "by_task"):
        assert new[key] == content[key]
    assert new["latency"] == {**content["latency"], "network": None}
    dims = [{k: v for k, v in row.items() if k != "noise_floor"} for row in new["by_dim"]]
    assert dims == content["by_dim"]
    rows = [{k: v for k, v in row.items() if k != "tasks"} for row in new["by_episode"]["rows"]]
    assert rows == content["by_episode"]
    assert list(record.dataset.episodes) == content["dataset"]["episodes"]
    page = render(ReportConfig(str(path)))
    found = embedded(page)["by_episode"]
    shown = [{k: v for k, v in row.items() if k != "tasks"} for row in found]
    assert shown == [row for row in content["by_episode"] if row["scope"] == "chunk"]
    assert json.loads((path / "run.json").read_text()) == content  # what is there stays as it is
    assert (path / "report.png").stat().st_size > 10_000
    both = render_together((str(path), str(run.directory)), str(tmp_path / "both.html"))
    assert "not comparable" in both.read_text()  # other episodes of another dataset


def test_a_rollout_of_0_1_is_read_and_rendered(tmp_path: Path) -> None:
    path, content = old("rollout", tmp_path)
    record = read_record(path)
    assert isinstance(record, RolloutRecord)
    new = record.to_json()
    assert new["success"] == {**content["success"], "stopped": None}
    assert [row["max_reward"] for row in new["episodes"]] == [
        row["max_reward"] for row in content["episodes"]
    ]
    times = record.closed_loop.time_to_success
    assert times.n - times.n_success == content["closed_loop"]["time_to_success"]["n_censored"]
    page = render(ReportConfig(str(path)))
    assert f"Success {content['success']['k']}/{content['success']['n']}" in page.read_text()


def test_a_plan_of_0_1_is_the_same_plan(tmp_path: Path) -> None:
    for kind in ("offline", "rollout"):
        path, content = old(kind, tmp_path)
        record = read_record(path)
        assert isinstance(record, OfflineRecord | RolloutRecord)
        plan = record.plan.to_json()
        held = dict(upgraded_plan(content["plan"]))
        for key in content["plan"].keys() - {"episodes"}:
            assert plan[key] == content["plan"][key]
        if kind == "rollout":
            held["success"] = "any"  # the only rule that there was
        require_same_plan(held, plan, path)
    assert upgraded_plan({"episodes": [3, 4, 5]}) == {"episodes": "3:6"}
    listed = [[None, 0, 1000, 300, None], [None, 0, 1001, 300, None], [None, 1, 1000, 300, None]]
    (first, second) = upgraded_plan({"episodes": listed})["episodes"]
    assert (first["task_id"], first["seeds"], first["demonstrations"]) == (0, "1000:1002", None)
    assert (second["task_id"], second["seeds"], second["max_steps"]) == (1, "1000", 300)


def test_rows_of_an_old_run_need_no_table(tmp_path: Path) -> None:
    path, content = old("offline", tmp_path)
    record = read_record(path)
    assert isinstance(record, OfflineRecord)
    rows = episode_rows(path, record, "step1")
    assert all(isinstance(row, EpisodeRow) for row in rows)
    wanted = [row for row in content["by_episode"] if row["scope"] == "step1"]
    assert [row.mae for row in rows] == [row["mae"] for row in wanted]
    assert [row.skill("hold_state") for row in rows] == [row["skill_hold_state"] for row in wanted]
