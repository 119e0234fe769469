"""Flags: what parses, and what is refused with one clear line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyscope.config import DatasetConfig, EvalConfig, PolicyConfig, RolloutConfig
from policyscope.config.parsing import Stop, parse_episodes, parse_rename_map, parse_until
from policyscope.errors import UsageError

POLICY = PolicyConfig(type="hold_state")
DATA = DatasetConfig(repo_id="a/b")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3", (3,)),
        ("185:188", (185, 186, 187)),
        ("7,3,3", (3, 7)),
        ("0:6:2,1", (0, 1, 2, 4)),
        (":2,204:", (0, 1, 204, 205)),
        ("[0, 2]", (0, 2)),
    ],
)
def test_episodes(text: str, expected: tuple[int, ...]) -> None:
    assert parse_episodes(text, 206) == expected


@given(st.sets(st.integers(0, 99), min_size=1))
def test_any_list_of_episodes_comes_back(chosen: set[int]) -> None:
    assert parse_episodes(",".join(map(str, chosen)), 100) == tuple(sorted(chosen))


@pytest.mark.parametrize(
    "text", ["", "a", "1:2:3:4", "206", "-1", "5:5", "200:207", "1.5", "0:4:0x"]
)
def test_bad_episodes(text: str) -> None:
    with pytest.raises(UsageError, match=r"expected .*; found .*Fix: "):
        parse_episodes(text, 206)


def test_rename_map() -> None:
    assert parse_rename_map('{"a": "b", "c": ["d", "e"]}') == {"a": ("b",), "c": ("d", "e")}
    assert parse_rename_map(None) == {}
    for text in ("{", "[1]", '{"a": 1}', '{"a": [1]}'):
        with pytest.raises(UsageError):
            parse_rename_map(text)


@pytest.mark.parametrize(
    "settings",
    [
        {"policy": PolicyConfig(path="x", type="replay")},
        {"dataset": DatasetConfig()},
        {"batch_size": "0"},
        {"batch_size": "-3"},
        {"batch_size": "many"},
        {"samples": 0},
        {"max_frames": 0},
        {"n_action_steps": 0},
        {"resume": True, "overwrite": True},
        {"rename_map": "{"},
    ],
)
def test_bad_settings(settings: dict) -> None:
    with pytest.raises(UsageError, match="Fix: "):
        EvalConfig(**{"policy": POLICY, "dataset": DATA, **settings})


@pytest.mark.parametrize(
    ("texts", "stop"),
    [
        ((), None),
        (("0.5",), Stop(rate=0.5)),
        (("60%",), Stop(rate=0.6)),
        (("width=0.2",), Stop(width=0.2)),
        (("0.5", "width=20%"), Stop(rate=0.5, width=0.2)),
    ],
)
def test_until(texts: tuple[str, ...], stop: Stop | None) -> None:
    assert parse_until(texts) == stop
    assert RolloutConfig(policy=PolicyConfig(type="hold_state"), until=texts).until == texts


@pytest.mark.parametrize(
    "text", ["", "1", "0", "150%", "-0.5", "nan", "width=", "rate=0.5", "0.5 0.6"]
)
def test_no_until(text: str) -> None:
    with pytest.raises(UsageError, match="--until"):
        RolloutConfig(policy=PolicyConfig(type="hold_state"), until=(text,))


def test_until_brings_its_own_interval() -> None:
    with pytest.raises(UsageError, match="--interval exact"):
        RolloutConfig(policy=PolicyConfig(type="hold_state"), until=("0.5",), interval="exact")
