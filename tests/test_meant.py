"""What dims are: degrees, millimetres, grippers; each number worked out by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from policyscope.actions.meanings import Meaning, selected
from policyscope.actions.spaces import ActionSchema, NativeActions
from policyscope.errors import OutputError
from policyscope.metrics.geometry import degrees_apart, integrated
from policyscope.metrics.grippers import balanced_accuracy, events, f1, outcomes
from policyscope.metrics.meant import distance
from policyscope.metrics.packed import pack, unpack
from policyscope.metrics.scorecard import Scorecard
from policyscope.metrics.stitched import stitches
from policyscope.metrics.sums import ScoredEpisode
from policyscope.runs.rows import MeaningRow
from test_sums import _equal

H, FPS = 4, 10.0


def point(**said: object) -> Meaning:
    return Meaning("position", ("x", "y", "z"), (0, 1, 2), "m", **said)  # type: ignore[arg-type]


def rotation(form: str, unit: str = "native", **said: object) -> Meaning:
    n = {"quaternion_xyzw": 4, "quaternion_wxyz": 4, "rotation_6d": 6}.get(form, 3)
    dims = tuple(range(n))
    names = tuple("abcdef"[:n])
    return Meaning("rotation", names, dims, unit, form=form, **said)  # type: ignore[arg-type]


GRIPPER = Meaning("gripper", ("grip",), (0,), "0-1", closed=0.0, open=1.0)


# ── geometry ──────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("form", "unit", "quarter", "still"),
    [
        ("axis_angle", "rad", [0, 0, np.pi / 2], [0, 0, 0]),
        ("axis_angle", "deg", [0, 90, 0], [0, 0, 0]),
        ("euler", "deg", [90, 0, 0], [0, 0, 0]),
        ("quaternion_xyzw", "native", [0, 0, 0.5**0.5, 0.5**0.5], [0, 0, 0, 1]),
        ("quaternion_wxyz", "native", [0.5**0.5, 0, 0, 0.5**0.5], [1, 0, 0, 0]),
        ("quaternion_xyzw", "native", [0, 0, 7, 7], [0, 0, 0, 2]),  # not of length one
        ("rotation_6d", "native", [0, 1, 0, -1, 0, 0], [1, 0, 0, 0, 1, 0]),
        ("rotation_6d", "native", [0, 2, 0, -1, 1, 0], [3, 0, 0, 1, 1, 0]),  # not orthogonal
    ],
)
def test_a_quarter_turn_is_90_degrees(
    form: str, unit: str, quarter: list[float], still: list[float]
) -> None:
    meaning = rotation(form, unit)
    found = distance(np.array([quarter]), np.array([still]), meaning)
    assert meaning.shown_unit == "deg"
    np.testing.assert_allclose(found, [90.0], atol=1e-9)


@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1))
@settings(max_examples=30)
def test_a_quaternion_and_its_negative_are_no_degrees_apart(q: list[float]) -> None:
    q_ = np.array([q])
    for form in ("quaternion_xyzw", "quaternion_wxyz"):
        assert degrees_apart(q_, -q_, rotation(form)) == pytest.approx(0, abs=1e-5)


def test_what_has_no_direction_is_no_rotation() -> None:
    for form, still in (("quaternion_wxyz", [1, 0, 0, 0]), ("rotation_6d", [1, 0, 0, 0, 1, 0])):
        zeros = np.zeros((1, len(still)))
        apart = degrees_apart(zeros, np.array([still], dtype=float), rotation(form))
        assert np.isfinite(apart).all()
    same = np.array([[1.0, 0, 0, 1, 0, 0]])  # two parallel axes
    assert np.isfinite(degrees_apart(same, same, rotation("rotation_6d"))).all()


def test_from_359_to_1_it_is_2_degrees() -> None:
    joints = Meaning("angle", ("a", "b"), (0, 1), "deg", continuous=True)
    apart = distance(np.array([[359.0, 1.0]]), np.array([[1.0, 359.0]]), joints)
    assert apart == pytest.approx(2.0)
    limited = replace(joints, continuous=False)
    assert distance(np.array([[359.0, 1.0]]), np.array([[1.0, 359.0]]), limited) == 358.0
    radians = replace(joints, unit="rad")
    one = np.radians([[359.0, 359.0]])
    assert distance(one, np.radians([[1.0, 1.0]]), radians) == pytest.approx(2.0)


def test_a_tenth_of_a_metre_is_100_millimetres() -> None:
    here, there = np.array([[0.0, 0.06, 0.5]]), np.array([[0.0, 0.0, 0.58]])
    assert point().shown_unit == "mm"
    assert distance(here, there, point()) == pytest.approx(100.0)
    scaled = point(scale=0.05)  # 2 is 0.1 m
    assert distance(np.array([[2.0, 0, 0]]), np.zeros((1, 3)), scaled) == pytest.approx(100.0)
    unknown = replace(point(), unit="native")
    assert unknown.shown_unit == "native"
    assert distance(here, there, unknown) == pytest.approx(0.1)


def test_displacements_end_where_their_sum_ends() -> None:
    steps = np.array([[0.1, 0, 0], [0.1, 0.2, 0], [0, 0, -0.3], [0, 0, 0.1]])
    found = distance(steps, np.zeros_like(steps), point(delta=True))
    where = np.cumsum(steps, axis=0)
    np.testing.assert_allclose(found, 1000 * np.linalg.norm(where, axis=1))
    assert found[-1] == pytest.approx(1000 * np.linalg.norm(steps.sum(axis=0)))


def test_turns_are_composed_about_the_axes_of_the_base() -> None:
    """Three times 30 degrees about one axis are 90; about two axes, the product in scipy."""
    thirty = np.tile(np.array([0, 0, np.pi / 6]), (3, 1))
    meaning = rotation("axis_angle", "rad", delta=True)
    found = degrees_apart(thirty[None], np.zeros((1, 3, 3)), meaning)
    np.testing.assert_allclose(found, [[30, 60, 90]])
    a, b = np.array([[0.5, 0, 0], [0, 0.7, 0]]), np.array([[0, 0, 0.4], [0.3, 0, 0]])
    ours, theirs = (Rotation.from_rotvec(v[1]) * Rotation.from_rotvec(v[0]) for v in (a, b))
    wanted = np.degrees((ours.inv() * theirs).magnitude())
    assert degrees_apart(a[None], b[None], meaning)[0, 1] == pytest.approx(wanted)


def test_only_declared_displacements_are_added_up() -> None:
    grip = replace(GRIPPER, dims=(3,))
    schema = ActionSchema(
        ("x", "y", "z", "grip"), ("m", "m", "m", "0-1"), (point(delta=True), grip)
    )
    walked = integrated(np.ones((2, H, 4)), schema, "delta")
    np.testing.assert_array_equal(walked[0, :, 0], [1, 2, 3, 4])
    np.testing.assert_array_equal(walked[0, :, 3], [1, 1, 1, 1])
    assert schema.kind == "delta"
    assert schema.displaced().meanings == schema.meanings


# ── grippers ──────────────────────────────────────────────────────────


def test_outcomes_and_their_scores_by_hand() -> None:
    predicted = np.array([[1, 1, 1, 0, 0, 0, 0, 1]], bool).T
    target = np.array([[1, 1, 0, 1, 0, 0, 0, 1]], bool).T
    real = np.array([[1, 1, 1, 1, 1, 1, 1, 0]], bool).T
    counts = outcomes(predicted, target, real)
    np.testing.assert_array_equal(counts, [[2, 1, 1, 3]])
    assert f1(counts[0]) == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert balanced_accuracy(counts[0]) == pytest.approx((2 / 3 + 3 / 4) / 2)
    assert f1(np.array([0, 0, 0, 5.0])) is None
    assert balanced_accuracy(np.array([0, 0, 0, 5.0])) is None


def _closing(at: int, n: int = 30) -> np.ndarray:
    return np.arange(n) >= at


def test_a_gripper_that_closes_three_frames_late_is_three_frames_late() -> None:
    np.testing.assert_array_equal(events(_closing(13), _closing(10), 10), [1, 1, 3, 3, 0])
    np.testing.assert_array_equal(events(_closing(8), _closing(10), 10), [1, 1, -2, 2, 0])
    np.testing.assert_array_equal(events(_closing(25), _closing(10), 10), [1, 0, 0, 0, 1])
    np.testing.assert_array_equal(events(~_closing(10), _closing(10), 10), [1, 0, 0, 0, 1])
    blink = _closing(10) ^ (np.arange(30) == 11)  # closes, opens, closes again
    np.testing.assert_array_equal(events(blink, _closing(10), 10), [1, 1, 0, 0, 2])


# ── episodes ──────────────────────────────────────────────────────────

ARM = (
    Meaning("position", ("x", "y", "z"), (0, 1, 2), "m", "left arm"),
    Meaning("angle", ("wrist",), (3,), "deg", "left arm", continuous=True),
    Meaning("gripper", ("grip",), (4,), "0-1", "left arm", closed=0.0, open=1.0),
)
SCHEMA = ActionSchema(("a", "b", "c", "d", "e"), ("m", "m", "m", "deg", "0-1"), ARM)
STATS = {
    "mean": [0.0] * 5,
    "std": [1.0, 1.0, 1.0, 50.0, 0.5],
    "min": [0.0] * 5,
    "max": [1.0, 1.0, 1.0, 360.0, 1.0],
}


def _episode(index: int, n: int = 30, *, late: int = 3, k: int = 1) -> ScoredEpisode:
    """0.1 m off in x, 2 degrees over the turn in the wrist, a gripper that closes late."""
    demo, ours = np.zeros((n + H, 5)), np.zeros((n + H, 5))
    ours[:, 0] = 0.1
    demo[:, 3], ours[:, 3] = 1.0, 359.0
    demo[:, 4] = np.arange(n + H) < 10
    ours[:, 4] = np.arange(n + H) < 10 + late
    at = np.arange(n)[:, None] + np.arange(H)
    pad = at >= n
    chunks = [NativeActions(v[at], SCHEMA.units) for v in (ours, demo)]
    return ScoredEpisode(
        index,
        np.arange(n),
        ("",) * n,
        (chunks[0],) * k,
        chunks[1],
        pad,
        {"repeat_last": chunks[1]},
    )


def _card(schema: ActionSchema = SCHEMA, *, m: int = 2, ensembled: bool = False) -> Scorecard:
    return Scorecard(schema, STATS, horizon=H, n_action_steps=m, fps=FPS, ensembled=ensembled)


def _rows(card: Scorecard) -> list[MeaningRow]:
    return card.by_meaning()


def test_a_whole_episode_by_hand() -> None:
    card = _card()
    for e in range(6):
        card.add(_episode(e))
    point_, wrist, grip = _rows(card)
    assert (point_.kind, point_.group, point_.unit) == ("position", "left arm", "mm")
    for value in (point_.step1, point_.chunk, point_.executed, point_.ade, point_.fde):
        assert value is not None
        assert value.value == pytest.approx(100.0)
        assert value.n_episodes == 6
    assert wrist.chunk is not None
    assert wrist.unit == "deg"
    assert wrist.chunk.value == pytest.approx(2.0)
    assert point_.baselines == {"repeat_last": 0.0}
    scores = grip.gripper
    assert grip.chunk is None
    assert scores is not None
    assert (scores.n_events, scores.met, scores.spurious) == (6, 6, 0)
    assert (scores.late_frames, scores.late_ms) == (3.0, 300.0)
    # the executed steps of a frame are its own and the next
    closed = sum(t + h >= 10 for t in range(30) for h in range(2) if t + h < 30)
    missed = sum(10 <= t + h < 13 for t in range(30) for h in range(2) if t + h < 30)
    assert scores.f1 == pytest.approx(2 * (closed - missed) / (2 * (closed - missed) + missed))
    assert scores.baselines == {"repeat_last": 1.0}
    # the error by dim takes the short way round, too
    assert card.by_dim()[3].mae == pytest.approx(2.0)


def test_a_robot_that_ensembles_is_measured_by_what_it_runs() -> None:
    card = _card(ensembled=True)
    episode = _episode(0)
    run = NativeActions(episode.target.values[:, :1], SCHEMA.units)
    card.add(replace(episode, executed=(run,)))
    point_, _, grip = _rows(card)
    assert point_.executed is not None
    assert point_.chunk is not None
    assert (point_.executed.value, point_.chunk.value) == (0.0, pytest.approx(100.0))
    assert grip.gripper is not None
    assert (grip.gripper.f1, grip.gripper.late_frames) == (1.0, 0.0)


def test_a_gripper_of_unknown_ends_is_split_in_the_middle_of_its_range() -> None:
    unknown = replace(ARM[2], closed=None, open=None)
    card = _card(replace(SCHEMA, meanings=(*ARM[:2], unknown)))
    card.add(_episode(0))
    scores = _rows(card)[2].gripper
    assert scores is not None
    assert (scores.ends_declared, scores.f1, scores.late_frames) == (False, None, 3.0)
    assert scores.balanced_accuracy is not None


def test_what_dims_are_adds_up_and_comes_back() -> None:
    whole, parts = _card(), [_card(), _card()]
    for e in range(6):
        whole.add(_episode(e, late=e, k=2))
        parts[e % 2].add(_episode(e, late=e, k=2))
    sums = parts[0].sums + parts[1].sums
    for ours, theirs in zip(_rows(Scorecard.of(sums)), _rows(whole), strict=True):
        _equal(ours.to_json(), theirs.to_json())
    arrays, header = pack(whole.sums)
    back = unpack(arrays, json.loads(json.dumps(header)))
    assert back.measure.schema == SCHEMA
    assert [r.to_json() for r in _rows(Scorecard.of(back))] == [r.to_json() for r in _rows(whole)]


@pytest.mark.parametrize(
    "damage",
    [
        {"dims": [0, 1, 9]},
        {"dims": [0, 1]},
        {"dims": "abc"},
        {"kind": "magic"},
        {"names": ["x"]},
        {"scale": "much"},
    ],
)
def test_stored_meanings_that_can_not_be_are_one_line(damage: dict[str, object]) -> None:
    card = _card()
    card.add(_episode(0))
    arrays, header = pack(card.sums)
    header["meanings"][0] = {**header["meanings"][0], **damage}
    with pytest.raises(OutputError, match="stored sums"):
        unpack(arrays, json.loads(json.dumps(header)))


def test_dims_that_are_chosen_keep_what_they_are() -> None:
    turned = Meaning("rotation", ("p", "q", "r"), (5, 6, 7), "rad", form="axis_angle")
    found = selected((*ARM, turned), (4, 2, 0, 7))
    assert [(m.kind, m.names, m.dims) for m in found] == [
        ("position", ("x", "z"), (2, 1)),
        ("gripper", ("grip",), (0,)),
        ("other", ("r",), (3,)),
    ]


@settings(max_examples=40)
@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 5))
def test_stitches_are_a_plain_loop(n: int, m: int, stride: int) -> None:
    horizon = 5
    frames = np.arange(0, n, stride)
    pad = frames[:, None] + np.arange(horizon) >= n
    at = stitches(frames, pad, m)
    wanted, queue = [], []
    for t in range(int(frames[-1]) + 1):
        if t % m == 0:
            queue = [(t, h) for h in range(m)] if t in frames else []
        if queue:
            wanted.append((*queue.pop(0), t))
    found = [
        (int(frames[r]), int(s), int(f)) for r, s, f in zip(at.row, at.step, at.frame, strict=True)
    ]
    assert found == wanted
    assert at.whole == (np.diff([t for *_, t in wanted]) == 1).all()
