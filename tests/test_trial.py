"""A dataset on trial: a fault put into straight demonstrations is found, and nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import policyscope as ps
from bend import DATA, INDEX, STATE, Bend, column, edit_json, edit_table, stats, together
from policyscope.checks.trial.looks import Trial
from policyscope.commands.cli import main
from policyscope.metrics.recordings import Extent, jumps, lag_curve, nearest, paths, repeated
from test_page import Opened, _serious, browser  # noqa: F401  (a fixture)

N, T, LAG = 12, 120, 2
GRIPPER = 2


def _demonstrations(seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Smooth motions of two joints and a gripper, each followed by its state two frames later."""
    draw = np.random.default_rng(seed)
    made = []
    for _ in range(N):
        t = np.arange(T + LAG) / 20
        phase, rate = draw.uniform(0, 6, 2), draw.uniform(0.8, 1.6, 2)
        joints = np.sin(t[:, None] * rate + phase) + 0.4 * np.sin(2.3 * t[:, None] + 2 * phase)
        grip = 0.5 + 0.5 * np.tanh(6 * np.sin(t + phase[0]))[:, None]
        asked = np.concatenate([joints, grip], axis=1) + draw.normal(size=(T + LAG, 3)) * 2e-3
        reached = asked[:-LAG] + draw.normal(size=(T, 3)) * 2e-3
        made.append((asked[LAG:], reached))
    return made


def _write(root: Path, camera: str | None = None) -> Path:
    from lerobot.datasets import LeRobotDataset

    names = ["shoulder", "elbow", "gripper"]
    features: dict[str, Any] = {
        key: {"dtype": "float32", "shape": (3,), "names": names} for key in (STATE, "action")
    }
    if camera is not None:
        features["observation.images.top"] = {
            "dtype": camera,
            "shape": (32, 32, 3),
            "names": ["height", "width", "channels"],
        }
    dataset = LeRobotDataset.create(
        "you/data", fps=20, features=features, root=root, use_videos=camera == "video"
    )
    draw = np.random.default_rng(1)
    for asked, reached in _demonstrations()[: N if camera is None else 3]:
        for action, state in zip(asked, reached, strict=True):
            frame = {"action": action.astype(np.float32), STATE: state.astype(np.float32)}
            if camera is not None:
                frame["observation.images.top"] = draw.integers(0, 255, (32, 32, 3), np.uint8)
            dataset.add_frame({**frame, "task": "Put the cube away."})
        dataset.save_episode()
    dataset.finalize()
    return root


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write(tmp_path_factory.mktemp("straight") / "d")


@pytest.fixture(scope="module", params=["image", "video"])
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write(tmp_path_factory.mktemp(request.param) / "d", request.param)


def trial(root: Path, **settings: Any) -> Trial:
    return ps.check_dataset(ps.CheckConfig(dataset=ps.DatasetConfig(root=str(root)), **settings))


def codes(root: Path) -> dict[str, str]:
    return {finding.code: finding.severity for finding in trial(root).findings}


def motion(change: Callable[[np.ndarray, np.ndarray], None]) -> Bend:
    """Change [N, T, D] actions and states in place; statistics follow, as a recorder would have."""

    def bend(root: Path) -> None:
        both: dict[str, np.ndarray] = {}

        def edit(table: pa.Table) -> pa.Table:
            for key in ("action", STATE):
                both[key] = np.array(table.column(key).to_pylist()).reshape(N, T, 3)
            change(both["action"], both[STATE])
            for key, values in both.items():
                kind = table.schema.field(key).type
                table = column(table, key, values.reshape(-1, 3).tolist(), kind)
            return table

        edit_table(DATA, edit)(root)
        for key, values in both.items():
            flat = values.reshape(-1, 3)
            if np.isfinite(flat).all():
                known = {"mean": flat.mean(0), "std": flat.std(0), "min": flat.min(0)}
                known["max"] = flat.max(0)
                stats(key, **{name: value.tolist() for name, value in known.items()})(root)

    return bend


def spike(action: np.ndarray, _: np.ndarray) -> None:
    action[4, 30, 0] += 1.5


def jump(_: np.ndarray, state: np.ndarray) -> None:
    state[3, 40:, 1] += 2.5


def wrap(action: np.ndarray, _: np.ndarray) -> None:
    action[5, 20:, 0] += 2 * np.pi


def freeze(_: np.ndarray, state: np.ndarray) -> None:
    state[7, :, 1] = state[7, 0, 1]


def rest(action: np.ndarray, state: np.ndarray) -> None:
    action[..., 1] = state[..., 1] = 0.5


def double(action: np.ndarray, state: np.ndarray) -> None:
    for values in (action, state):
        values[2, 41:] = values[2, 40:-1].copy()


def delay(action: np.ndarray, _: np.ndarray) -> None:
    action[:, 6:] = action[:, :-6].copy()


def delay_one(action: np.ndarray, _: np.ndarray) -> None:
    action[9, 10:] = action[9, :-10].copy()


def hasten(_: np.ndarray, state: np.ndarray) -> None:
    state[:, 14:] = state[:, :-14].copy()


def echo(action: np.ndarray, state: np.ndarray) -> None:
    action[:] = state


def saturate(action: np.ndarray, _: np.ndarray) -> None:
    action[..., GRIPPER] = 1.0
    action[3, 10:14, GRIPPER] = 0.0


def copy(action: np.ndarray, state: np.ndarray) -> None:
    action[8], state[8] = action[1], state[1]


def elsewhere(action: np.ndarray, state: np.ndarray) -> None:
    action[6] += 6.0
    state[6] += 6.0


def lose(action: np.ndarray, _: np.ndarray) -> None:
    action[5, 9, 0] = np.nan


def time(change: Callable[[np.ndarray], None]) -> Bend:
    def edit(table: pa.Table) -> pa.Table:
        values = table.column("timestamp").to_numpy().reshape(N, T).copy()
        change(values)
        return column(table, "timestamp", values.reshape(-1), pa.float32())

    return edit_table(DATA, edit)


def drop(values: np.ndarray) -> None:
    values[3, 30:] += 0.05


def late(values: np.ndarray) -> None:
    values[3] += 4.0


def slow(values: np.ndarray) -> None:
    values *= 2


def shift_index(table: pa.Table) -> pa.Table:
    values = table.column("index").to_numpy().copy()
    values[5 * T :] += 7
    return column(table, "index", values, pa.int64())


def without_frames(table: pa.Table) -> pa.Table:
    """Frames 30 to 33 of episode 2 were lost: the others keep their numbers."""
    keep = np.delete(np.arange(N * T), np.arange(2 * T + 30, 2 * T + 34))
    return table.take(pa.array(keep))


def shorter(table: pa.Table) -> pa.Table:
    lengths = [T - 4 if e == 2 else T for e in range(N)]
    ends = np.cumsum(lengths)
    table = column(table, "length", lengths, pa.int64())
    table = column(table, "dataset_to_index", ends, pa.int64())
    return column(table, "dataset_from_index", ends - lengths, pa.int64())


def no_text(root: Path) -> None:
    import pandas as pd

    path = root / "meta/tasks.parquet"
    table = pd.read_parquet(path)
    table.index = pd.Index([" "], name=table.index.name)
    table.to_parquet(path)
    edit_table(INDEX, lambda t: column(t, "tasks", [[" "]] * N, pa.list_(pa.string())))(root)


TWICE = [*range(T)] * N
TWICE[3 * T + 9] = 8


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (motion(spike), {"action_jumps"}),
        (motion(jump), {"state_jumps"}),
        (motion(wrap), {"action_wraps"}),
        (motion(freeze), {"state_frozen"}),
        (motion(double), {"frames_repeated"}),
        (motion(delay), {"state_leads"}),
        (motion(delay_one), {"lag_differs"}),
        (motion(hasten), {"state_lags"}),
        (motion(echo), {"action_is_state"}),
        (motion(saturate), {"actions_saturated"}),
        (motion(copy), {"episodes_copied"}),
        (motion(elsewhere), {"episodes_outlying"}),
        (motion(lose), {"not_finite"}),
        (time(drop), {"timestamps_uneven"}),
        (time(late), {"timestamps_offset"}),
        (time(slow), {"dataset_rate_contradicts"}),
        (edit_table(DATA, shift_index), {"dataset_index_broken"}),
        (stats("action", std=[9.0, 9.0, 9.0]), {"dataset_stats_contradict"}),
        (no_text, {"task_without_text"}),
        (
            together(
                edit_table(DATA, without_frames),
                edit_table(INDEX, shorter),
                edit_json("meta/info.json", lambda i: i.update(total_frames=N * T - 4)),
            ),
            {"dataset_frames_missing"},
        ),
        (
            edit_table(DATA, lambda t: column(t, "frame_index", TWICE, pa.int64())),
            {"episodes_unreadable"},
        ),
    ],
    ids=lambda value: "-".join(sorted(value)) if isinstance(value, set) else "",
)
def test_a_fault_is_found(fault: Bend, expected: set[str], straight: Path, tmp_path: Path) -> None:
    root = tmp_path / "d"
    shutil.copytree(straight, root)
    fault(root)
    found = codes(root)
    assert expected <= found.keys()
    assert all(found[code] != "info" for code in expected)
    beside = {code for code, severity in found.items() if severity != "info"} - expected
    assert beside <= _FOLLOW.get(next(iter(expected)), set())


_FOLLOW = {
    "action_wraps": {"episodes_outlying", "state_leads", "action_jumps"},
    "dataset_frames_missing": {"dataset_index_broken", "timestamps_uneven"},
    "state_lags": {"state_jumps"},
}
"""What a fault may bring along."""


def test_straight_demonstrations_have_hints_alone(straight: Path, seen: Path) -> None:
    for root in (straight, seen):
        assert set(codes(root).values()) <= {"info"}
    known = {look.title: look for look in trial(straight).looks}
    assert known["lag"].values["n"] == LAG
    assert known["videos"].outcome == "absent"


def test_a_dim_that_rests_is_a_hint(straight: Path, tmp_path: Path) -> None:
    root = tmp_path / "d"
    shutil.copytree(straight, root)
    motion(rest)(root)
    found = codes(root)
    assert found["dims_rest"] == "info"
    assert set(found.values()) == {"info"}


def one_picture(table: pa.Table) -> pa.Table:
    pictures = table.column("observation.images.top").to_pylist()
    at = table.schema.get_field_index("observation.images.top")
    kind = table.schema.field(at).type
    values = [pictures[0]] * T + pictures[T:]
    return table.set_column(at, table.schema.field(at), pa.array(values, kind))


def test_pictures_that_stand_still_or_show_nothing(seen: Path, tmp_path: Path) -> None:
    info = json.loads((seen / "meta/info.json").read_text())
    if info["features"]["observation.images.top"]["dtype"] == "video":
        pytest.skip("videos are bent below")
    root = tmp_path / "d"
    shutil.copytree(seen, root)
    edit_table(DATA, one_picture)(root)
    (found,) = [f for f in trial(root).findings if f.severity == "warning"]
    assert found.code == "pictures_frozen"
    assert "episodes that were looked at (0)" in found.message
    dark = shutil.copytree(seen, tmp_path / "dark")
    edit_table(DATA, _dark)(dark)
    assert codes(dark)["pictures_empty"] == "warning"


def _dark(table: pa.Table) -> pa.Table:
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (32, 32)).save(file, "PNG")
    at = table.schema.get_field_index("observation.images.top")
    kind = table.schema.field(at).type
    values = [{"bytes": file.getvalue(), "path": None}] * len(table)
    return table.set_column(at, table.schema.field(at), pa.array(values, kind))


def test_a_video_that_ends_before_its_rows(seen: Path, tmp_path: Path) -> None:
    info = json.loads((seen / "meta/info.json").read_text())
    if info["features"]["observation.images.top"]["dtype"] == "image":
        pytest.skip("there is no video")
    root = tmp_path / "d"
    shutil.copytree(seen, root)
    assert "videos" in {look.title for look in trial(root).looks if look.outcome == "fine"}
    start = "videos/observation.images.top/from_timestamp"
    edit_table(INDEX, lambda t: column(t, start, [0.0, T / 20, 2 * T / 20 + 0.5], pa.float64()))(
        root
    )
    (found,) = [f for f in trial(root).findings if f.code == "video_shorter"]
    assert found.severity == "error"
    assert "found none for 10 rows of 1 episodes, 10 of them in episode 2" in found.message
    root = Path(shutil.copytree(seen, tmp_path / "e"))
    ends = [T / 20, 2 * T / 20 - 0.15, 3 * T / 20]  # the next episode's pictures are no stand-in
    end = start.replace("from", "to")
    edit_table(INDEX, lambda t: column(t, end, ends, pa.float64()))(root)
    (found,) = [f for f in trial(root).findings if f.code == "video_shorter"]
    assert "found none for 3 rows of 1 episodes, 3 of them in episode 1" in found.message


def test_the_command_line(
    straight: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as end:
            main(["check", "--dataset.root", *words])
        return int(end.value.code or 0), capsys.readouterr().out

    status, out = run(str(straight))
    assert (status, "nothing wrong" in out) == (0, True)
    root = tmp_path / "d"
    shutil.copytree(straight, root)
    motion(spike)(root)
    status, out = run(str(root))
    assert status == 1
    assert "! jumps" in out
    assert "frame 30 of episode 4" in " ".join(out.split())
    status, out = run(str(root), "--json")
    assert [f["code"] for f in json.loads(out)][:1] == ["action_jumps"]
    status, out = run(str(root), "--dataset.episodes", "0:4")
    assert status == 0


def test_a_policy_has_no_such_page(straight: Path) -> None:
    with pytest.raises(ps.InputError, match="--html"):
        ps.CheckConfig(
            dataset=ps.DatasetConfig(root=str(straight)),
            policy=ps.PolicyConfig(type="hold_state"),
            html="page.html",
        )


# ── the numbers themselves ────────────────────────────────────────────


def test_steps_that_stay_and_steps_that_go_back() -> None:
    slow = np.linspace(0, 1, 200)[:, None]
    off, moved = slow.copy(), slow.copy()
    off[50] += 0.5
    moved[120:] += 0.9
    extent = Extent.of([slow] * 20)
    found = jumps([slow, off, moved], extent)
    assert [(j.episode, j.frame, j.kind) for j in found] == [(1, 50, "spike"), (2, 120, "jump")]
    assert found[1].size == pytest.approx(0.9 + 1 / 199)


def test_switches_may_jump() -> None:
    grip = np.repeat([0.0, 1.0, 0.0], 50)[:, None]
    assert not jumps([grip], Extent.of([grip]))


def test_a_frame_repeated_in_motion_and_not_at_rest() -> None:
    moving = np.arange(20.0)[:, None]
    twice = np.insert(moving, 8, moving[7], axis=0)
    still = np.concatenate([moving, np.full((5, 1), 19.0)])
    scale = np.ones(1)
    assert repeated(twice, scale).tolist() == [8]
    assert not len(repeated(still, scale))
    assert not len(repeated(moving, np.zeros(1)))


@pytest.mark.parametrize("lag", [-3, 0, 2])
def test_the_lag_that_was_made(lag: int) -> None:
    walk = np.random.default_rng(0).normal(size=(300, 2)).cumsum(axis=0)
    asked, reached = walk[10:-10], walk[10 - lag : 290 - lag]
    curve = lag_curve([asked] * 2, [reached] * 2, range(-5, 6))
    assert (curve.argmax(axis=0) - 5).tolist() == [lag, lag]
    assert curve.max() == pytest.approx(1)
    assert np.isnan(lag_curve([asked], [np.zeros_like(asked)], [0])).all()


def test_distances_of_paths_are_rms_in_std() -> None:
    line = np.linspace(0, 4, 50)[:, None]
    longer = np.linspace(0, 4, 90)[:, None] + 2
    apart, whose = nearest(paths([line, longer, line + 10], np.array([2.0])))
    assert apart.tolist() == pytest.approx([1.0, 1.0, 4.0])
    assert whose.tolist() == [1, 0, 1]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pusht", "g1", "aloha-sim-transfer-cube"])
def test_real_demonstrations_have_hints_alone(name: str, shared: Path) -> None:
    assert set(codes(shared / "datasets" / name).values()) <= {"info"}


def test_the_page_shows_what_was_found(seen: Path, tmp_path: Path) -> None:
    root = tmp_path / "d"
    shutil.copytree(seen, root)
    edit_table(DATA, lambda t: column(t, "timestamp", LATE, pa.float32()))(root)
    for lang in ("en", "zh"):
        found = trial(root, html=str(tmp_path / f"{lang}.html"), lang=lang)
        page = (tmp_path / f"{lang}.html").read_text()
        assert found.odd.keys() == {1}
        assert "timestamps_offset" in page
        text = page.split('id="data">')[1].split("</script>")[0]
        data = json.loads(text)
        assert [e["index"] for e in data["episodes"]] == [0, 1, 2]
        assert data["by_episode"][1]["why"].startswith("timestamps" if lang == "en" else "时间戳")
        assert len(data["spread"]) == 3
        assert sum(data["spread"][0]["share"]) == pytest.approx(1)


LATE = np.concatenate([np.arange(T) / 20, np.arange(T) / 20 + 0.2, np.arange(T) / 20])


def test_every_look_is_in_the_catalogue() -> None:
    import ast

    from policyscope.checks import trial as room
    from policyscope.views.language import catalogue

    said = set()
    for file in Path(room.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Look":
                parts = [c for arg in node.args[:2] for c in ast.walk(arg)]
                said |= {c.value for c in parts if isinstance(c, ast.Constant)}
    assert len(said) > 25
    known = catalogue("zh").keys()
    assert {text for text in said if isinstance(text, str)} <= known
    assert {f"{what}_{kind}" for what in ("action", "state") for kind in KINDS} <= known


KINDS = ("frozen", "jumps", "wraps")


@pytest.mark.slow
@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_in_a_browser(
    browser: Any,  # noqa: F811
    lang: str,
    width: int,
    seen: Path,
    tmp_path: Path,
) -> None:
    root = tmp_path / "d"
    shutil.copytree(seen, root)
    edit_table(DATA, lambda t: column(t, "timestamp", LATE, pa.float32()))(root)
    trial(root, html=str(tmp_path / "p.html"), lang=lang)
    opened = Opened(browser, tmp_path / "p.html", width, "dark")
    opened.show_everything()
    page = opened.page
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("[data-chart] svg[role=img]").count() == 3
    page.locator("[data-episode]").select_option("2")
    assert page.locator("[data-actions] svg").count() == 3
    legend = page.locator("[data-legend]").inner_text()
    assert ("recorded state" if lang == "en" else "录制的状态") in legend
    serious = _serious(opened)
    opened.context.close()
    assert serious == []
    assert opened.wrong == []


@pytest.mark.slow
def test_faults_in_a_copy_of_pusht(shared: Path, tmp_path: Path) -> None:
    """One fault an episode, in real demonstrations: each is found there, and nothing elsewhere."""
    root = Path(shutil.copytree(shared / "datasets/pusht", tmp_path / "pusht"))

    def edit(table: pa.Table) -> pa.Table:
        of = table.column("episode_index").to_numpy()
        known = {key: np.array(table.column(key).to_pylist()) for key in ("action", STATE)}
        seconds = table.column("timestamp").to_numpy().copy()
        rows = {e: np.flatnonzero(of == e) for e in (20, 40, 60, 80, 100, 120, 150)}
        known["action"][rows[20][40], 0] += 250
        known[STATE][rows[40][60:], 1] -= 240
        known["action"][rows[60][8:]] = known["action"][rows[60][:-8]].copy()
        known[STATE][rows[80], 0] = known[STATE][rows[80][0], 0]
        for values in known.values():
            values[rows[100][31:]] = values[rows[100][30:-1]].copy()
            n = min(len(rows[120]), int((of == 7).sum()))
            values[rows[120][:n]] = values[np.flatnonzero(of == 7)[:n]]
            values[rows[120][n:]] = values[rows[120][n - 1]]
        seconds[rows[150][50:]] += 0.2
        for key, values in known.items():
            table = column(table, key, values.tolist(), table.schema.field(key).type)
        return column(table, "timestamp", seconds, pa.float32())

    edit_table(DATA, edit)(root)
    found = ps.check_dataset(
        ps.CheckConfig(dataset=ps.DatasetConfig(repo_id="lerobot/pusht", root=str(root)))
    )
    assert {
        "action_jumps",
        "state_jumps",
        "lag_differs",
        "state_frozen",
        "frames_repeated",
        "timestamps_uneven",
    } <= {finding.code for finding in found.findings}
    assert found.odd.keys() <= {7, 20, 40, 60, 80, 100, 120, 150}
    assert {20, 40, 60, 80, 100, 150} <= found.odd.keys()
