"""Sums add up, and come back from plain arrays as they were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policyscope.actions.spaces import ActionSchema, NativeActions
from policyscope.errors import InputError, OutputError
from policyscope.metrics.packed import pack, unpack
from policyscope.metrics.paired import paired_errors
from policyscope.metrics.scorecard import Scorecard
from policyscope.metrics.sums import POLICY, Measure, ScoredEpisode, Sums, sums_of
from policyscope.runs.arrays import read_arrays, write_arrays
from test_scorecard import FPS, STATS, H, M, _episodes

UNITS = {"one": ("px",) * 3, "mixed": ("rad", "rad", "0-1")}


def _measure(units: tuple[str, ...], **changed: Any) -> Measure:
    schema = ActionSchema(("x", "y", "z"), units)
    return Measure.of(schema, STATS, **({"horizon": H, "n_action_steps": M, "fps": FPS} | changed))


def _sums(units: tuple[str, ...], episodes: list[ScoredEpisode]) -> Sums:
    total = Sums.nothing(_measure(units))
    for episode in episodes:
        total += sums_of(total.measure, episode)
    return total


def _tables(sums: Sums) -> dict[str, Any]:
    card = Scorecard.of(sums)
    tables = card.tables().to_json()
    rows = [row.to_json() for row in card.by_episode()]
    return {
        **tables,
        "n": (card.n_frames, card.n_episodes),
        "by_episode": sorted(rows, key=lambda r: (r["scope"], r["episode_index"])),
        "by_task": sorted(tables["by_task"], key=lambda r: (r["scope"], r["task"])),
    }


def _equal(a: Any, b: Any, *, rel: float = 1e-12) -> None:
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            _equal(a[key], b[key], rel=rel)
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            _equal(x, y, rel=rel)
    elif isinstance(a, float):
        assert a == pytest.approx(b, rel=rel, abs=1e-12, nan_ok=True)
    else:
        assert a == b


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from(sorted(UNITS)),
    st.sampled_from([1, 3]),
    st.lists(st.integers(0, 2), min_size=5, max_size=5),
    st.permutations(range(5)),
)
def test_the_sums_of_parts_add_up_to_those_of_the_whole(
    units: str, samples: int, part_of: list[int], order: list[int]
) -> None:
    """However episodes are spread over parts, and in whatever order these are added."""
    episodes = _episodes(UNITS[units], samples=samples)
    parts = [
        _sums(UNITS[units], [episodes[i] for i in order if part_of[i] == part]) for part in range(3)
    ]
    _equal(_tables(_sums(UNITS[units], episodes)), _tables(parts[2] + parts[0] + parts[1]))


def test_a_scorecard_is_the_tables_of_its_sums() -> None:
    episodes = _episodes(UNITS["one"])
    card = Scorecard(
        ActionSchema(("x", "y", "z"), UNITS["one"]), STATS, horizon=H, n_action_steps=M, fps=FPS
    )
    for episode in episodes:
        card.add(episode)
    assert _tables(card.sums) == _tables(_sums(UNITS["one"], episodes))


@pytest.mark.parametrize(
    "changed",
    [
        {"horizon": H + 1},
        {"n_action_steps": 1},
        {"fps": 30.0},
        {"action_kind": "delta"},
        {"ensembled": True},
        {"stats": {**STATS, "mean": [1.0, 0.5, 0.1]}},
        {"schema": ActionSchema(("x", "y", "z"), ("m",) * 3)},
    ],
)
def test_sums_of_different_things_do_not_add_up(changed: dict[str, Any]) -> None:
    here = _measure(UNITS["one"])
    other = Measure.of(
        changed.pop("schema", here.schema),
        changed.pop("stats", STATS),
        **({"horizon": H, "n_action_steps": M, "fps": FPS} | changed),
    )
    with pytest.raises(InputError, match="expected the same dims"):
        Sums.nothing(here) + Sums.nothing(other)


def test_no_episode_counts_twice_and_baselines_must_agree() -> None:
    episodes = _episodes(UNITS["one"])
    sums = _sums(UNITS["one"], episodes)
    with pytest.raises(InputError, match="found episode 10 in both"):
        sums + _sums(UNITS["one"], episodes[:1])
    alone = ScoredEpisode(**{**vars(episodes[0]), "index": 99, "baselines": {}})
    with pytest.raises(InputError, match="found hold_state, dataset_mean, policy and policy"):
        sums + _sums(UNITS["one"], [alone])


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("units", sorted(UNITS))
def test_packed_sums_come_back_bit_for_bit(units: str, samples: int) -> None:
    episodes = _episodes(UNITS[units], samples=samples)
    episodes[1] = ScoredEpisode(
        **{**vars(episodes[1]), "tasks": ("a",) * 3 + ("b",) * (len(episodes[1].tasks) - 3)}
    )
    sums = _sums(UNITS[units], episodes)
    arrays, header = pack(sums)
    assert all(a.dtype in (np.int64, np.float64) for a in arrays.values())
    again = unpack(arrays, json.loads(json.dumps(header)))
    assert _tables(again) == _tables(sums)
    assert again.measure.difference(sums.measure) is None


def test_what_an_ensemble_runs_is_packed_too() -> None:
    """One more step, which the chunk's own tables don't see."""
    units, run = UNITS["one"], np.ones((1, 1, 3))
    whole = _episodes(units)
    measure = _measure(units, ensembled=True)
    sums = Sums.nothing(measure)
    for e in whole:
        executed = (NativeActions(np.repeat(run, len(e.frame_index), axis=0), units),)
        sums += sums_of(measure, ScoredEpisode(**{**vars(e), "executed": executed}))
    assert sums.by_episode(POLICY, space="native").squared.shape == (5, H + 1, 3)
    again, plain = _tables(unpack(*pack(sums))), _tables(_sums(units, whole))
    assert again == _tables(sums)
    assert again["summary"]["chunk"] == plain["summary"]["chunk"]
    first = np.concatenate([e.target.values[:, 0] for e in whole])
    mae = again["summary"]["executed"]["mae"]["value"]
    assert mae == pytest.approx(np.abs(1 - first).mean())


def test_sums_of_as_many_episodes_as_were_expected_are_stored_without_a_copy() -> None:
    episodes = _episodes(UNITS["one"])
    scores = Scorecard.of(Sums.nothing(_measure(UNITS["one"])), room=len(episodes))
    for episode in episodes:
        scores.add(episode)
    arrays, _ = pack(scores.sums)
    assert arrays["errors"].flags.c_contiguous
    assert arrays["target"].flags.c_contiguous


def test_nothing_comes_back_as_nothing() -> None:
    arrays, header = pack(Sums.nothing(_measure(UNITS["one"])))
    again = unpack(arrays, header)
    assert again.episodes == ()
    assert (again + _sums(UNITS["one"], _episodes(UNITS["one"]))).episodes == tuple(range(10, 15))


@pytest.mark.parametrize(
    ("key", "harm"),
    [
        ("count", None),
        ("errors", lambda x: x[..., :2]),
        ("task", lambda x: x + 9),
        ("task", lambda x: x - 9),
        ("episode", lambda x: x.astype(np.float64)),
        ("episode", np.zeros_like),
        ("shape.jumps.length", np.negative),
        ("shape.steps", lambda x: x[:-1]),
        ("sample.k", lambda x: x + 1),
        ("version", lambda x: x + 1),
        ("units", lambda x: x[:1]),
        ("who", lambda x: x[0]),
        ("horizon", lambda x: f"{x} steps"),
        ("names", lambda x: [*x[:2], 3]),
        ("tasks", None),
    ],
)
def test_broken_stored_sums_are_one_line(key: str, harm: Any) -> None:
    arrays, header = pack(_sums(UNITS["one"], _episodes(UNITS["one"], samples=2)))
    broken: dict[str, Any] = arrays if key in arrays else header
    known = broken.pop(key)
    if harm is not None:
        broken[key] = harm(known)
    with pytest.raises(OutputError, match=r"expected .*; found .*\. Fix: ") as caught:
        unpack(arrays, header)
    assert "\n" not in str(caught.value)


def test_stored_sums_come_back_bit_for_bit(tmp_path: Path) -> None:
    sums = _sums(UNITS["one"], _episodes(UNITS["one"]))
    file = tmp_path / "sums.safetensors"
    write_arrays(file, *pack(sums))
    assert _tables(unpack(*read_arrays(file))) == _tables(sums)
    assert [f.name for f in tmp_path.iterdir()] == [file.name]


@pytest.mark.parametrize(
    "harm",
    [
        lambda _: b"",
        lambda whole: whole[:100],
        lambda whole: whole[:-8],
        lambda whole: b"\xff" * 8 + whole[8:],
        lambda whole: whole.replace(b'"policyscope"', b'"somebodyels"'),
        lambda whole: whole.replace(b'{\\"version', b'[\\"version'),
        lambda whole: whole.replace(b'"F64"', b'"F32"'),
        lambda _: b"\x80\x04pickle.",
    ],
)
def test_a_broken_file_of_arrays_is_one_line(tmp_path: Path, harm: Any) -> None:
    file = tmp_path / "sums.safetensors"
    write_arrays(file, *pack(_sums(UNITS["one"], _episodes(UNITS["one"]))))
    whole = file.read_bytes()
    file.write_bytes(harm(whole))
    assert file.read_bytes() != whole
    with pytest.raises(OutputError, match=r"sums\.safetensors: expected .*; found") as caught:
        read_arrays(file)
    assert "\n" not in str(caught.value)
    with pytest.raises(OutputError, match="expected"):
        read_arrays(tmp_path / "no.safetensors")


def test_two_runs_are_compared_by_episode_from_their_sums() -> None:
    """The paired ratio of a policy to a baseline is one less its skill."""
    sums = _sums(UNITS["one"], _episodes(UNITS["one"]))
    ours, hold = (sums.by_episode(who, space="native") for who in (POLICY, "hold_state"))
    assert ours.squared.shape == (5, H, 3)
    whole = [s.squared.mean(axis=2).sum(axis=1) for s in (hold, ours)]
    known = paired_errors(*whole, ours.count.sum(axis=1))
    skill = Scorecard.of(sums).skill()["hold_state"]["chunk"]["value"]
    assert 1 - known.ratio == pytest.approx(skill)
    by_step = paired_errors(hold.absolute, ours.absolute, ours.count)
    assert by_step.ratio.shape == (H, 3)
    assert by_step.n_episodes[0, 0] == 5


def test_sums_of_an_earlier_version_are_about_zero() -> None:
    """They held sums and squares of the actions themselves."""
    sums = _sums(UNITS["one"], _episodes(UNITS["one"]))
    arrays, header = pack(sums)
    old = dict(arrays)
    first, second = np.zeros_like(arrays["target"][0]), np.zeros_like(arrays["target"][1])
    for i, episode in enumerate(_episodes(UNITS["one"])):
        real = np.where(episode.is_pad[..., None], 0.0, episode.target.values)
        first[i], second[i] = real.sum(axis=0), (real**2).sum(axis=0)
    old["target"] = np.stack([first, second])
    _equal(_tables(unpack(old, header | {"version": 1})), _tables(sums))
    assert np.array_equal(old["target"][0], first)  # what was given stays as it was
