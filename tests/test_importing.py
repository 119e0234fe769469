"""Runs made elsewhere: lerobot's results and labelled recordings, against what they hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fakes
import policyscope as ps
from policyscope.commands.cli import main
from policyscope.commands.compare import compare
from policyscope.commands.importing import import_run
from policyscope.config import CompareConfig, DatasetConfig, ImportConfig, ImportedEnv
from policyscope.config import ImportedPolicy as Policy
from policyscope.errors import DatasetError, InputError, OutputError
from policyscope.metrics.tally import eval_info
from policyscope.runs.content import RolloutRecord
from policyscope.runs.labels import read_labels
from policyscope.runs.rollouts import stored_rollouts
from policyscope.runs.rows import RolloutRow

WON = [True] * 9 + [False]


def per_task(**more: Any) -> dict[str, Any]:
    """As lerobot writes since 0.4: ten episodes, nine solved."""
    metrics = {"successes": WON, "max_rewards": [1.0] * 9 + [0.5], "sum_rewards": [3.0] * 10}
    task = {"task_group": "pusht", "task_id": 0, "metrics": metrics}
    return {"per_task": [task], "per_group": {}, "overall": {"pc_success": 90.0, **more}}


def per_episode(**more: Any) -> dict[str, Any]:
    """As lerobot wrote before: the same episodes, with their seeds."""
    rows = [
        {"episode_ix": i, "sum_reward": 3.0, "max_reward": 1.0, "success": won, "seed": 1000 + i}
        for i, won in enumerate(WON)
    ]
    return {"per_episode": rows, "aggregated": {"pc_success": 90.0, **more}, "video_paths": []}


NEWER = {"n_episodes": 10, "n_success": 9, "pc_success_ci95": [59.58, 98.21]}


def imported(tmp_path: Path, content: Any, **settings: Any) -> RolloutRecord:
    file = tmp_path / "eval_info.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return import_run(ImportConfig(str(file), output_dir=str(tmp_path / "o"), **settings)).record


def labels(tmp_path: Path, text: str | bytes) -> Path:
    file = tmp_path / "labels.csv"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


# ── lerobot's eval_info.json ──────────────────────────────────────────


@pytest.mark.parametrize("content", [per_task(), per_task(**NEWER), per_episode()])
def test_every_form_of_eval_info(tmp_path: Path, content: dict[str, Any]) -> None:
    record = imported(tmp_path, content)
    assert [row.success for row in record.episodes] == WON
    assert (record.success.k, record.success.n) == (9, 10)
    assert record.success.ci_low == pytest.approx(0.5958, abs=1e-4)
    assert record.success.ci_high == pytest.approx(0.9821, abs=1e-4)
    assert record.imported is not None
    old = "per_episode" in content
    assert ("seeds" in record.imported.unknown) is not old
    seeds = range(1000, 1010) if old else [None] * 10
    assert [row.seed for row in record.episodes] == list(seeds)
    assert record.plan is record.latency is record.throughput is None
    assert all(row.steps is None and row.n_calls is None for row in record.episodes)
    assert record.closed_loop.time_to_success.n_success == 9
    assert not record.closed_loop.time_to_success.curve.time_s  # nobody noted when


def test_the_seed_of_that_run_can_be_told(tmp_path: Path) -> None:
    record = imported(tmp_path, per_task(), seed=7)
    assert [row.seed for row in record.episodes] == list(range(7, 17))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (per_task(pc_success=80.0), "pc_success 80 where its episodes give 90"),
        (per_task(n_success=8), "n_success 8"),
        (per_episode(n_episodes=11), "n_episodes 11"),
        (per_task(avg_max_reward=0.2), "avg_max_reward"),
        ({"overall": {"pc_success": 90.0}}, "averages alone"),
        ({"per_task": []}, "0 episodes"),
        ({}, "nothing"),
        ("[]", "list"),
        ("{", "JSON"),
        ({"per_task": [{"task_group": "a", "task_id": 0, "metrics": {}}]}, "successes"),
        (json.dumps(per_task()).replace("[true", "[0.5"), "neither true nor false"),
        (json.dumps(per_task()).replace("[true", "[null"), "some episodes only"),
        (json.dumps(per_task()).replace("0.5]", "0.5, 1.0]"), "zip"),
        (json.dumps(per_episode()).replace('"episode_ix": 3', '"episode_ix": 2'), "twice"),
        (json.dumps(per_episode()).replace('"seed": 1003', '"seed": 1002'), "seed twice"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(tmp_path: Path, content: Any, says: str) -> None:
    with pytest.raises(OutputError, match=says) as caught:
        imported(tmp_path, content)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "o").exists()


def test_ours_is_of_the_newer_form() -> None:
    rows = [
        RolloutRow(
            episode=i,
            seed=i,
            task_group="pusht",
            task_id=0,
            task="",
            success=won,
            max_reward=1.0,
            sum_reward=1.0,
            demonstration=None,
            max_coverage=None,
            steps=1,
            ended="success",
            detail="",
            n_calls=1,
            attempts=1,
            faults=[],
            sim_s=0.0,
            video=None,
        )
        for i, won in enumerate(WON)
    ]
    written = eval_info(rows, wall_s=1.0)
    for part in (written["overall"], written["per_group"]["pusht"], written["per_task"][0]):
        assert (part["n_episodes"], part["n_success"]) == (10, 9)
        assert part["pc_success"] == pytest.approx(90.0)
        assert part["pc_success_ci95"] == pytest.approx([59.58, 98.21], abs=0.01)


def test_imports_are_compared_by_seed_where_they_have_some(tmp_path: Path) -> None:
    worse = json.dumps(per_episode()).replace("true", "false", 4).replace("90.0", "50.0")
    runs = {}
    for name, content in (("a", per_episode()), ("b", json.loads(worse)), ("c", per_task())):
        (tmp_path / name).mkdir()
        imported(tmp_path / name, content)
        runs[name] = str(tmp_path / name / "o")
    known = compare(CompareConfig(runs=(runs["a"], runs["b"]))).runs[0].closed_loop
    assert known is not None
    assert (known.n_a_better, known.n_b_better) == (4, 0)
    apart = compare(CompareConfig(runs=(runs["a"], runs["c"]))).runs[0]
    assert apart.closed_loop is not None
    assert apart.closed_loop.n_a_better is None
    assert {d.what for d in apart.differences} >= {"environment", "control rate", "tasks"}
    assert not any(d.blocking for d in apart.differences)


def test_an_import_replaces_nothing_unasked(tmp_path: Path) -> None:
    imported(tmp_path, per_task())
    with pytest.raises(OutputError, match="a finished run"):
        imported(tmp_path, per_task())
    assert imported(tmp_path, per_episode(), overwrite=True).episodes[0].seed == 1000
    with pytest.raises(OutputError, match="one of policyscope's own"):
        import_run(ImportConfig(str(tmp_path / "o")))


# ── tables of labels ──────────────────────────────────────────────────


@pytest.mark.parametrize(
    "text",
    [
        "episode,success,notes\n0,true,fine\n1,false,\n",
        "Episode Index;Succeeded;Comment\r\n0;YES;fine\r\n1;No;\r\n",
        "trial\tis_success\tremarks\n0\t1\tfine\n\n1\t0\t\n",
        "\ufeffnotes,result,episode_id\nfine,Success,0\n,failure,1.0\n",
        "回合,是否成功,备注\n0,成功,fine\n1,否,\n".encode(),
        "episode,success,notes\n0,1.0,fine\n1,0.0\n".encode("utf-16"),
    ],
)
def test_tables_in_many_hands(tmp_path: Path, text: str | bytes) -> None:
    known = read_labels(labels(tmp_path, text))
    assert [(e.recorded, e.success, e.note) for e in known] == [(0, True, "fine"), (1, False, "")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "a column episode; found an empty file"),
        ("episode,success\n", "a header alone"),
        ("episode,notes\n0,a\n", "a column success"),
        ("success,notes\n1,a\n", "a column episode"),
        ("episode,ep,success\n0,0,1\n", "one column for episode"),
        ("episode,success\n0,maybe\n", "row 2 .*true or false"),
        ("episode,success\n0,0.5\n", "0.5"),
        ("episode,success\n0,\n", "found none"),
        ("episode,success\n0,1\n0,0\n", "row 3 .*episode 0 again"),
        ("episode,success\n-1,1\n", "from 0 on"),
        ("episode,success\n99999999999999999999,1\n", "from 0 on"),
        ("episode,success,seed\n0,1,5\n1,1,5\n", "seed 5 again"),
        ("episode,success,reward\n0,1,inf\n", "a finite number as reward"),
        ("episode,success,notes\n0,1,a,b\n", "found 4"),
        ('episode,success,notes\n0,1,"open\n', "a CSV file"),
        ('episode,success,notes\n0,1,"' + "x" * 200_000 + '"\n', "a CSV file"),
        (b"episode,success,notes\n0,1,\xff\xe9\n", "UTF-8"),
        (b"episode,success\n0,\x001\n", "null"),
        (b"\xff\xfee", "UTF-8"),
        (b"PK\x03\x04" + bytes(50), "null"),
        (",".join(f"c{i}" for i in range(300)), "at most 200 columns"),
    ],
)
def test_what_is_wrong_with_a_table_is_one_line(
    tmp_path: Path, text: str | bytes, says: str
) -> None:
    with pytest.raises(OutputError, match=says) as caught:
        read_labels(labels(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_table_alone_is_a_run_by_task_with_its_notes(tmp_path: Path) -> None:
    note = "<script>alert(1)</script>\u202eevil"
    text = f"episode,success,task,notes\n0,1,stack,\n1,0,push,{note}\n2,1,push,\n"
    asked = ImportConfig(
        str(labels(tmp_path, text)), output_dir=str(tmp_path / "o"), policy=Policy("my_act")
    )
    run = import_run(asked)
    tasks = {row.task: (row.task_id, row.k, row.n) for row in run.record.by_task}
    assert tasks == {"push": (0, 1, 2), "stack": (1, 1, 1)}
    assert run.record.policy.type == "my_act"
    page = ps.render(ps.ReportConfig(str(run.directory))).read_text(encoding="utf-8")
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\u202eevil" in page


def test_other_tasks_are_not_comparable(tmp_path: Path) -> None:
    runs = []
    for name, task in (("a", "push"), ("b", "pull")):
        (tmp_path / name).mkdir()
        file = labels(tmp_path / name, f"episode,success,task\n0,1,{task}\n1,0,{task}\n")
        import_run(ImportConfig(str(file), output_dir=str(tmp_path / name / "o")))
        runs.append(str(tmp_path / name / "o"))
    assert compare(CompareConfig(runs=tuple(runs))).exit == 2


# ── recordings ────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five episodes of two tasks, two of them solved from a frame on."""
    return fakes.write_dataset(
        tmp_path_factory.mktemp("recording") / "data",
        lengths=(9, 12, 7, 10, 8),
        tasks=("push", "stack"),
        solved_at=(None, 5, None, 2, None),
    )


def test_a_recording_becomes_a_run(recording: Path, tmp_path: Path) -> None:
    run = import_run(ImportConfig(str(recording), output_dir=str(tmp_path / "o")))
    record = run.record
    assert [row.success for row in record.episodes] == [False, True, False, True, False]
    assert [row.success_step for row in record.episodes] == [None, 6, None, 3, None]
    assert [row.steps for row in record.episodes] == [9, 12, 7, 10, 8]
    assert [row.max_reward for row in record.episodes] == pytest.approx([0.8, 1.1, 0.6, 0.9, 0.7])
    assert record.closed_loop.time_to_success.curve.time_s == pytest.approx([0, 0.3, 0.6])
    assert {row.task: (row.k, row.n) for row in record.by_task} == {"push": (0, 3), "stack": (2, 2)}
    assert record.imported is not None
    assert "control rate" not in record.imported.unknown
    stored = list(stored_rollouts(run.directory, record.episodes))
    assert [e.actions.shape for e in stored] == [(n, 2) for n in (9, 12, 7, 10, 8)]
    assert all(np.isnan(e.states[-1]).all() and np.isfinite(e.states[:-1]).all() for e in stored)
    page = ps.render(ps.ReportConfig(str(run.directory))).read_text(encoding="utf-8")
    assert fakes.IMAGE in page
    assert "data:image/webp" in page or '"sheets"' in page


def test_a_table_beside_its_recording(recording: Path, tmp_path: Path) -> None:
    text = "episode,success,notes\n3,yes,slow\n0,yes,nobody saw it\n"
    asked = ImportConfig(
        str(labels(tmp_path, text)),
        dataset=DatasetConfig(root=str(recording)),
        env=ImportedEnv("bench"),
        output_dir=str(tmp_path / "o"),
    )
    record = import_run(asked).record
    assert [(row.recorded, row.success, row.success_step) for row in record.episodes] == [
        (3, True, 3),
        (0, True, None),
    ]
    assert [row.note for row in record.episodes] == ["slow", "nobody saw it"]
    assert [f.code for f in record.findings] == ["labels_differ"]
    assert [row.task for row in record.by_task] == ["stack", "push"]


def test_a_table_of_other_episodes_is_refused(recording: Path, tmp_path: Path) -> None:
    file = labels(tmp_path, "episode,success\n17,yes\n")
    with pytest.raises(DatasetError, match="episode 17, which it has not"):
        import_run(ImportConfig(str(file), dataset=DatasetConfig(root=str(recording))))


def test_a_recording_without_labels_is_refused(data: Path) -> None:
    with pytest.raises(DatasetError, match=r"a feature next\.success"):
        import_run(ImportConfig(str(data)))


def test_the_facts_of_a_checkpoint_are_read(act: Path, tmp_path: Path) -> None:
    record = imported(tmp_path, per_task(), policy=Policy(str(act)))
    assert record.policy.type == "act"
    assert record.policy.sha256 is not None
    assert record.policy.chunk_size is not None


@pytest.mark.parametrize("source", ["nowhere.json", "nowhere.csv", "/dev/null", "/", "."])
def test_what_is_no_source_is_one_line(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["import", source])
    assert end.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_python_knows_it(tmp_path: Path) -> None:
    file = labels(tmp_path, "episode,success\n0,1\n")
    run = ps.import_run(ps.ImportConfig(str(file), output_dir=str(tmp_path / "o")))
    assert ps.read_record(run.directory).kind == "rollout"
    with pytest.raises(InputError, match="an empty text"):
        ps.ImportConfig("")


# ── model cards ───────────────────────────────────────────────────────


def card_of(directory: Path, file: Path) -> Any:
    from huggingface_hub import ModelCard

    ps.render(ps.ReportConfig(str(directory), model_card=str(file)))
    return ModelCard(file.read_text(encoding="utf-8")).data


def test_a_card_comes_back_from_the_hubs_own_reader(tmp_path: Path) -> None:
    evil = 'my"act\n- x: {}\u202e: &a'
    record = imported(tmp_path, per_episode(), policy=Policy(evil), env=ImportedEnv("pusht/P: -"))
    data = card_of(tmp_path / "o", tmp_path / "card.md")
    assert data.model_name == 'my"act\\x0a- x: {}\\u202e: &a'
    success, reward = data.eval_results
    assert success.metric_type == "success_rate"
    assert success.metric_value == pytest.approx(0.9)
    assert success.metric_args["ci95_low"] == record.success.ci_low
    assert (success.metric_args["k"], success.metric_args["n"]) == (9, 10)
    assert (success.task_type, success.dataset_name) == ("robotics", "pusht/P: -")
    assert reward.metric_value == record.closed_loop.max_reward.value
    again = card_of(tmp_path / "o", tmp_path / "card.md")  # ours may be replaced
    assert again.to_dict() == data.to_dict()


def test_a_card_of_an_offline_run(data: Path, tmp_path: Path) -> None:
    from policyscope.commands.evaluate import evaluate

    run = evaluate(fakes.config_for(data, "repeat_last", tmp_path / "o"))
    card = card_of(run.directory, tmp_path / "card.md")
    mae = card.eval_results[0]
    assert mae.metric_value == run.record.summary.executed.mae.value
    assert mae.dataset_type == run.record.dataset.repo_id
    assert mae.metric_args["ci95_low"] == run.record.summary.executed.mae.ci_low
    assert {r.metric_type for r in card.eval_results[1:]} == {
        f"skill_{name}" for name in run.record.skill
    }


def test_a_card_replaces_no_file_of_others(tmp_path: Path) -> None:
    imported(tmp_path, per_task())
    (tmp_path / "README.md").write_text("# mine")
    with pytest.raises(OutputError, match="nothing here was touched"):
        ps.render(ps.ReportConfig(str(tmp_path / "o"), model_card=str(tmp_path / "README.md")))
    assert (tmp_path / "README.md").read_text() == "# mine"
