"""Parsers under random input: a value, or an error that says so; never anything else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fakes
import policyscope as ps
from hostile import goods
from hostile.faults import rewrite
from policyscope.config.parsing import (
    parse_episodes,
    parse_rename_map,
    parse_settings,
    parse_task_ids,
)
from policyscope.data.source import FrameSource
from policyscope.policies.reading import read_checkpoint
from policyscope.runs.clips import read_clips
from policyscope.runs.content import OfflineRecord
from policyscope.runs.directory import RunDirectory
from policyscope.runs.episodes import episode_rows

FEW, MANY = 120, 300
_tried = 0


def fuzz(n: int) -> Any:
    """So many inputs, the same in each run."""
    return settings(
        max_examples=n,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def survives(read: Callable[[], object]) -> None:
    """It returns, or raises what is meant for users, in one line that no terminal acts on."""
    global _tried
    _tried += 1
    try:
        read()
    except ps.PolicyscopeError as error:
        text = str(error)
        assert text.isprintable()
        assert ": expected " in text
        assert ". Fix: " in text


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    data = fakes.write_dataset(folder / "data")
    fakes.write_policy(folder / "policy", data, "act")
    ps.evaluate(goods.config(data, folder / "run", None))
    return folder


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["", "/", "..", "\x00", "\x1b[2J", "1e999", "9" * 400]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in a JSON document."""
    yield path
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(inner, (*path, key))


def changed(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A document with another value at a place."""
    if not path:
        return value
    head, *rest = path
    inner = changed(content[head], tuple(rest), value)
    if isinstance(content, dict):
        return {**content, head: inner}
    return [*content[:head], inner, *content[head + 1 :]]


def spoil_json(file: Path, draw: st.DataObject) -> None:
    """One to three random values at random places."""
    content = json.loads(file.read_text())
    for _ in range(draw.draw(st.integers(1, 3))):
        path = draw.draw(st.sampled_from(list(places(content))))
        content = changed(content, path, draw.draw(_VALUES))
    rewrite(file, json.dumps(content).encode("utf-8", "surrogatepass"))


def spoil_bytes(file: Path, draw: st.DataObject) -> None:
    """Some other bytes, or an end that comes early."""
    content = bytearray(file.read_bytes())
    for _ in range(draw.draw(st.integers(1, 6))):
        content[draw.draw(st.integers(0, len(content) - 1))] = draw.draw(st.integers(0, 255))
    end = draw.draw(st.sampled_from([len(content), len(content), len(content) // 2]))
    rewrite(file, bytes(content[:end]))


# ── flags ─────────────────────────────────────────────────────────────

_FLAG = (
    st.text(max_size=30)
    | st.from_regex(r"[\[\]0-9:,\- ]{0,20}", fullmatch=True)
    | _VALUES.map(lambda value: json.dumps(value, ensure_ascii=False))
)


@given(_FLAG, st.integers(1, 10**6))
@fuzz(MANY)
def test_lists_of_episodes(text: str, total: int) -> None:
    def read() -> None:
        episodes = parse_episodes(text, total)
        assert episodes == tuple(sorted(set(episodes)))
        assert 0 <= episodes[0] <= episodes[-1] < total

    survives(read)


@given(_FLAG)
@fuzz(MANY)
def test_other_flags(text: str) -> None:
    survives(lambda: parse_rename_map(text))
    survives(lambda: parse_settings(text))
    survives(lambda: parse_task_ids(text))
    survives(lambda: ps.RolloutConfig(n_envs=text, video=text, policy=_HOLD))
    survives(lambda: ps.EvalConfig(batch_size=text, policy=_HOLD))


_HOLD = ps.PolicyConfig(type="hold_state")


# ── files ─────────────────────────────────────────────────────────────


def _copy(good: Path, name: str, scratch: Path) -> Path:
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(good / name, scratch)
    return scratch


@given(st.data())
@fuzz(FEW)
def test_records(good: Path, tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    run = _copy(good, "run", tmp_path_factory.getbasetemp() / "fuzzed-run")
    spoil_json(run / "run.json", data)
    survives(lambda: ps.read_record(run))


@pytest.mark.parametrize("name", ["predictions.parquet", "clips.parquet", "by_episode.parquet"])
@given(data=st.data())
@fuzz(FEW)
def test_tables(name: str, good: Path, tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    run = _copy(good, "run", tmp_path_factory.getbasetemp() / "fuzzed-run")
    spoil_bytes(run / name, data)
    survives(lambda: list(RunDirectory(run).stored()))
    survives(lambda: read_clips(run))
    record = ps.read_record(run)
    assert isinstance(record, OfflineRecord)
    survives(lambda: episode_rows(run, record))


@pytest.mark.parametrize(
    "name", ["config.json", "policy_preprocessor.json", "policy_postprocessor.json"]
)
@given(data=st.data())
@fuzz(FEW)
def test_checkpoints(
    name: str, good: Path, tmp_path_factory: pytest.TempPathFactory, data: Any
) -> None:
    scratch = tmp_path_factory.getbasetemp() / "fuzzed-policy"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    for file in (good / "policy").iterdir():
        (scratch / file.name).hardlink_to(file)
    spoil_json(scratch / name, data)
    survives(lambda: read_checkpoint(ps.PolicyConfig(path=str(scratch))))


@pytest.mark.parametrize("name", ["info.json", "stats.json"])
@given(data=st.data())
@fuzz(FEW)
def test_datasets(
    name: str, good: Path, tmp_path_factory: pytest.TempPathFactory, data: Any
) -> None:
    root = _copy(good, "data", tmp_path_factory.getbasetemp() / "fuzzed-data")
    spoil_json(root / "meta" / name, data)

    def read() -> None:
        source = FrameSource(ps.DatasetConfig(root=str(root)), repo_id="fake/data")
        source.load((0,))

    survives(read)


_EVAL_INFO = {
    "per_task": [
        {
            "task_group": "pusht",
            "task_id": 0,
            "metrics": {"successes": [True], "max_rewards": [1.0], "sum_rewards": [2.0]},
        }
    ]
}


@given(st.data())
@fuzz(FEW)
def test_eval_info(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    file = tmp_path_factory.getbasetemp() / "eval_info.json"
    file.write_text(json.dumps(_EVAL_INFO))
    spoil_json(file, data)
    survives(lambda: ps.read_eval_info(file))


def test_at_least_a_thousand_inputs(capsys: pytest.CaptureFixture[str]) -> None:
    if not _tried:
        pytest.skip("counts the inputs of the tests above")
    with capsys.disabled():
        print(f"\nfuzzed inputs: {_tried} tried, all survived")
    assert _tried >= 1000
