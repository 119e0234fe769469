"""Action schemas: files that people write, robots that are known, drafts from names."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fakes
from policyscope.actions.declared import as_yaml, drafted, read_meanings
from policyscope.actions.meanings import UNDECLARED_UNIT
from policyscope.actions.robots import action_schema
from policyscope.actions.spaces import ActionSchema
from policyscope.commands.cli import main
from policyscope.commands.evaluate import evaluate
from policyscope.commands.report import ReportConfig, render
from policyscope.config import DatasetConfig, EvalConfig, PolicyConfig
from policyscope.errors import UsageError, visible

ARM = """
actions:
  - {names: [x, y, z], kind: position, unit: m, delta: true, scale: 0.05}
  - {names: [rx, ry, rz], kind: rotation, form: axis_angle, unit: rad, delta: true}
  - {names: [grip], kind: gripper, closed: 1, open: -1}
"""
JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")


def _write(tmp_path: Path, text: str) -> str:
    file = tmp_path / "actions.yaml"
    file.write_text(text)
    return str(file)


def _known(names: tuple[str, ...], repo_id: str, robot: str | None, **said: object) -> ActionSchema:
    return action_schema(names=names, repo_id=repo_id, robot_type=robot, **said)  # type: ignore[arg-type]


# ── files ─────────────────────────────────────────────────────────────


def test_a_file_says_what_dims_are(tmp_path: Path) -> None:
    schema = _known(tuple("abcdefg"), "me/mine", None, meanings=_write(tmp_path, ARM))
    point, turn, grip = schema.meanings
    assert (point.dims, turn.dims, grip.dims) == ((0, 1, 2), (3, 4, 5), (6,))
    assert schema.names == tuple("abcdefg")
    assert schema.labels == ("x", "y", "z", "rx", "ry", "rz", "grip")
    assert schema.units == ("×0.05 m",) * 3 + ("rad",) * 3 + (UNDECLARED_UNIT,)
    assert (schema.kind, grip.middle, point.shown_unit) == ("delta", 0.0, "mm")


def test_json_is_a_file_too(tmp_path: Path) -> None:
    text = json.dumps({"actions": [{"names": ["a", "b"], "kind": "angle", "unit": "deg"}]})
    (one,) = read_meanings(_write(tmp_path, text), 2)
    assert (one.kind, one.unit, one.names) == ("angle", "deg", ("a", "b"))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("actions: [", "YAML or JSON"),
        ("- 1", "actions"),
        ("actions: []", "at least 1 item"),
        ("actions:\n - {names: [a], kind: magic}", "position"),
        ("actions:\n - {names: [a, a], kind: angle}", "'a' twice"),
        ("actions:\n - {names: [a], kind: angle}", "1 names"),
        ("actions:\n - {names: [a, b], kind: rotation}", "form"),
        ("actions:\n - {names: [a, b], kind: rotation, form: euler}", "3 dims"),
        ("actions:\n - {names: [a, b], kind: gripper}", "one dim"),
        ("actions:\n - {names: [a, b], kind: angle, closed: 1}", "gripper"),
        ("actions:\n - {names: [a, b], kind: position, scale: .inf}", "scale"),
        ("actions:\n - {names: [a, b], kind: position, continuous: true}", "angles"),
        ("actions:\n - {names: [a, b], kind: other, colour: red}", "colour"),
        ("actions: !!python/object/apply:os.system [echo]", "YAML or JSON"),
        ("a: &a [x]\nactions: [*a, *a]", "alias"),
        ("[" * 500 + "]" * 500, "nested"),
        ("\x00", "YAML or JSON"),
        (" " * (1 << 18) + "x", "262,144 bytes"),
    ],
    ids=range(18),
)
def test_what_is_no_schema_is_one_line(text: str, found: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        read_meanings(_write(tmp_path, text), 2)
    assert found in str(error.value)
    assert "\n" not in str(error.value)
    assert "policyscope schema" in str(error.value)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_meanings(str(tmp_path / "none.yaml"), 2)


def test_units_come_from_one_place(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one of them"):
        _known(tuple("abcdefg"), "me/mine", None, meanings=_write(tmp_path, ARM), units="m")


# ── robots ────────────────────────────────────────────────────────────


def _kinds(schema: ActionSchema) -> list[tuple[str, str, int, str]]:
    return [(m.kind, m.group, len(m.dims), m.unit) for m in schema.meanings]


def test_pusht_and_aloha() -> None:
    pusht = _known(("motor_0", "motor_1"), "lerobot/pusht", "unknown")
    assert pusht.labels == ("x", "y")
    assert pusht.units == ("px", "px")
    names = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate", "gripper")
    both = tuple(f"{side}_{name}" for side in ("left", "right") for name in names)
    aloha = _known(both, "lerobot/aloha_sim_transfer_cube_human", "aloha")
    assert _kinds(aloha) == [
        ("angle", "left arm", 6, "rad"),
        ("gripper", "left arm", 1, "0-1"),
        ("angle", "right arm", 6, "rad"),
        ("gripper", "right arm", 1, "0-1"),
    ]
    assert aloha.meanings[1].closed == 0.0
    assert aloha.units == (*["rad"] * 6, "0-1") * 2


def test_libero_is_known_by_its_bounds() -> None:
    names = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
    bounds = (np.full(7, -1.0), np.full(7, 1.0))
    libero = _known(names, "HuggingFaceVLA/libero", "panda", bounds=bounds)
    assert libero.kind == "delta"
    assert [m.shown_unit for m in libero.meanings] == ["mm", "deg", "±1"]
    assert not libero.meanings[2].delta
    places = (np.full(7, -1.0), np.array([1, 1, 1, 3.1, 1, 1, 1]))
    assert _known(names, "me/libero_absolute", "panda", bounds=places).meanings == ()
    assert _known(names, "me/libero", "panda").meanings == ()


@pytest.mark.parametrize("robot", ["so100_follower", "so101_follower", "koch_follower"])
def test_hobby_arms_have_joints_of_unknown_unit(robot: str) -> None:
    names = tuple(f"{joint}.pos" for joint in JOINTS)
    arm = _known(names, "me/pick", robot)
    assert _kinds(arm) == [("angle", "", 5, UNDECLARED_UNIT), ("gripper", "", 1, "%")]
    assert arm.meanings[1].middle == 50.0
    old = _known(tuple(f"main_{joint}" for joint in JOINTS), "me/old", "so100")
    assert old.meanings[1].middle is None
    told = _known(names, "me/pick", robot, units="deg,deg,deg,deg,deg,%")
    assert told.meanings[0].shown_unit == "deg"
    assert told.meanings[1].closed == 0.0


def test_g1_droid_and_strangers() -> None:
    g1 = _known(
        ("kLeftShoulderPitch", "kRightElbow", "kLeftHandPinky", "kRightHandIndex"),
        "g1",
        "Unitree_G1_Inspire",
    )
    assert _kinds(g1) == [
        ("angle", "left arm", 1, "rad"),
        ("angle", "right arm", 1, "rad"),
        ("other", "left hand", 1, "0-1"),
        ("other", "right hand", 1, "0-1"),
    ]
    ends = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
    droid = _known(ends, "lerobot/droid_100", "Franka")
    assert [m.shown_unit for m in droid.meanings] == ["mm", "deg", "0-1"]
    assert droid.meanings[2].closed == 1.0
    joints = (*(f"joint_{i}" for i in range(7)), "gripper")
    assert _kinds(_known(joints, "lerobot/droid_1.0.1", "Franka"))[0] == ("angle", "", 7, "rad")
    assert _known(ends, "me/mine", "my_arm").meanings == ()


# ── drafts ────────────────────────────────────────────────────────────


@settings(max_examples=60)
@given(
    st.lists(
        st.one_of(
            st.sampled_from([*JOINTS, "x", "y", "z", "rx", "ry", "rz", "qx", "qy", "qz", "qw"]),
            st.text(min_size=1, max_size=12),
        ),
        min_size=1,
        max_size=12,
        unique=True,
    )
)
def test_a_draft_is_a_schema_of_its_names(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    """Whatever dims are called: each stands in the draft once, and the draft reads as it is."""
    meanings = drafted(names)
    assert [n for m in meanings for n in m.names] == names
    assert [d for m in meanings for d in m.dims] == list(range(len(names)))
    assert {m.unit for m in meanings} == {UNDECLARED_UNIT}
    folder = tmp_path_factory.mktemp("draft")
    back = read_meanings(_write(folder, as_yaml(meanings, ["a heading"])), len(names))
    shown = tuple(replace(m, names=tuple(map(visible, m.names))) for m in meanings)
    assert back == shown  # what can't be printed is shown by its number


def test_the_command_writes_what_the_flag_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["ee.x", "ee.y", "ee.z", "gripper"]
    root = fakes.write_dataset(tmp_path / "d", dim=4, names=names, cameras=())
    with pytest.raises(SystemExit) as ended:
        main(["schema", "--dataset.repo_id", "me/mine", "--dataset.root", str(root)])
    assert ended.value.code == 0
    draft = capsys.readouterr().out
    assert "unit: unknown" in draft
    file = _write(tmp_path, draft.replace("unit: unknown", "unit: m", 1))
    data = DatasetConfig(repo_id="me/mine", root=str(root))
    plain = evaluate(
        EvalConfig(PolicyConfig(type="repeat_last"), dataset=data, output_dir=str(tmp_path / "o"))
    )
    found = [f for f in plain.record.findings if f.code == "units_undeclared"]
    assert "policyscope schema" in found[0].fix
    assert not plain.record.by_meaning
    said = DatasetConfig(repo_id="me/mine", root=str(root), actions=file)
    run = evaluate(
        EvalConfig(PolicyConfig(type="repeat_last"), dataset=said, output_dir=str(tmp_path / "p"))
    )
    point, grip = run.record.by_meaning
    assert (point.unit, list(point.names)) == ("mm", ["ee.x", "ee.y", "ee.z"])
    assert grip.gripper is not None
    page = render(ReportConfig(str(tmp_path / "p"), lang="zh")).read_text()
    assert "按肢体分组" in page


def test_a_dataset_of_displacements_is_taken_as_such(tmp_path: Path) -> None:
    root = fakes.write_dataset(tmp_path / "d", dim=7, state_dim=7, cameras=())
    data = DatasetConfig(repo_id="me/mine", root=str(root), actions=_write(tmp_path, ARM))
    config = EvalConfig(PolicyConfig(type="zero"), dataset=data, output_dir=str(tmp_path / "o"))
    record = evaluate(config).record
    assert record.actions.kind == "delta"
    assert "zero" in record.baselines
    assert list(record.actions.labels) == ["x", "y", "z", "rx", "ry", "rz", "grip"]
