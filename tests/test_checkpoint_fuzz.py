"""Any value anywhere in a checkpoint's JSON: it is read, or refused in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fakes
from policyscope.actions.robots import Robot
from policyscope.checks.preflight import preflight_policy
from policyscope.config import DatasetConfig, PolicyConfig
from policyscope.data.source import FrameSource
from policyscope.errors import PolicyscopeError
from policyscope.policies.alignment import align
from policyscope.policies.checkpoint import Checkpoint
from policyscope.policies.reading import read_checkpoint
from policyscope.policies.split import trained_on

FILES = ("config.json", "policy_preprocessor.json", "policy_postprocessor.json")
TRAINED: dict[str, Any] = {
    "dataset": {"repo_id": "fake/data", "episodes": [0, 1], "eval_split": 0.5, "fps": 10},
    "env": {"type": "pusht", "fps": 10},
    "policy": {"type": "act"},
}
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.sampled_from([0, -1, 1e308, -1e308, 2**31, "", "..", "/", "\x00", "\ud800", "é" * 99]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=6,
    ),
)


@pytest.fixture(scope="module")
def bench(act: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("fuzz") / "policy"
    shutil.copytree(act, folder)
    (folder / "train_config.json").write_text(json.dumps(TRAINED))
    source = FrameSource(DatasetConfig(root=str(data)), repo_id="fake/data")
    return folder, source.facts


def places(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value that could hold something else."""
    inner = content.items() if isinstance(content, dict) else enumerate(content)
    found = [path]
    for key, value in inner:
        found += places(value, (*path, key)) if isinstance(value, dict | list) else [(*path, key)]
    return found


def put(content: Any, path: tuple[Any, ...], value: Any, *, lost: bool) -> Any:
    if not path:
        return value
    at = content
    for key in path[:-1]:
        at = at[key]
    if lost:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return content


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(pick=st.data(), value=ODD, lost=st.booleans())
def test_any_value_anywhere(
    pick: st.DataObject, value: Any, lost: bool, bench: tuple[Path, Any], tmp_path: Path
) -> None:
    folder, facts = bench
    name = pick.draw(st.sampled_from([*FILES, "train_config.json"]))
    content = json.loads((folder / name).read_text())
    content = put(content, pick.draw(st.sampled_from(places(content))), value, lost=lost)
    kept = (folder / name).read_bytes()
    try:
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
        checkpoint = read_checkpoint(PolicyConfig(path=str(folder)))
        checked(checkpoint, facts.robot, folder, tmp_path)
        trained_on(checkpoint, facts)
        said = ""
    except PolicyscopeError as error:
        said = str(error)
    finally:
        (folder / name).write_bytes(kept)
    assert "\n" not in said
    assert len(said) < 2000


def checked(checkpoint: Checkpoint, robot: Robot, folder: Path, out: Path) -> None:
    """Everything that is known before weights are loaded."""
    config = fakes.config_for(folder, folder, out)
    alignment = align(checkpoint, robot, config)
    for finding in preflight_policy(checkpoint, robot, alignment, config):
        assert "\n" not in finding.message


def test_the_whole_one_is_read(bench: tuple[Path, Any], tmp_path: Path) -> None:
    folder, facts = bench
    checkpoint = read_checkpoint(PolicyConfig(path=str(folder)))
    checked(checkpoint, facts.robot, folder, tmp_path)
