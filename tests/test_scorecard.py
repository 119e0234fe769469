"""Tables against plain loops over the same arrays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from policyscope.actions.spaces import ActionSchema, NativeActions
from policyscope.metrics.scorecard import Scorecard
from policyscope.metrics.sums import ScoredEpisode

H, M, FPS = 5, 2, 10.0
LENGTHS = (7, 9, 6, 8, 11)
STATS = {
    "mean": [1.0, 0.5, 0.0],
    "std": [2.0, 0.1, 0.0],
    "min": [-9.0, -9.0, -9.0],
    "max": [9, 9, 9.0],
}


def _episodes(units: tuple[str, ...], samples: int = 1) -> list[ScoredEpisode]:
    draw = np.random.default_rng(3)
    episodes = []
    for index, length in enumerate(LENGTHS):
        shape = (length, H, 3)
        steps = np.arange(length)[:, None] + np.arange(H)
        episodes.append(
            ScoredEpisode(
                index=index + 10,
                frame_index=np.arange(length),
                tasks=("even" if index % 2 == 0 else "odd",) * length,
                predicted=tuple(
                    NativeActions(draw.normal(size=shape), units) for _ in range(samples)
                ),
                target=NativeActions(draw.normal(size=shape), units),
                is_pad=steps >= length,
                baselines={
                    name: NativeActions(draw.normal(size=shape) * scale, units)
                    for name, scale in (("hold_state", 2.0), ("dataset_mean", 3.0))
                },
            )
        )
    return episodes


def _card(units: tuple[str, ...], episodes: list[ScoredEpisode]) -> Scorecard:
    schema = ActionSchema(("x", "y", "z"), units)
    card = Scorecard(schema, STATS, horizon=H, n_action_steps=M, fps=FPS)
    for episode in episodes:
        card.add(episode)
    return card


def _errors(episodes: list[ScoredEpisode], who, steps: int, dims=(0, 1, 2)) -> np.ndarray:
    """Every counted error, one by one."""
    return np.array(
        [
            who(e).values[t, h, d] - e.target.values[t, h, d]
            for e in episodes
            for t in range(len(e.frame_index))
            for h in range(steps)
            if not e.is_pad[t, h]
            for d in dims
        ]
    ).reshape(-1, len(dims))


SCOPES = [("step1", 1), ("chunk", H), ("executed", M)]


@pytest.mark.parametrize(("scope", "steps"), SCOPES)
def test_summary_and_skill_agree_with_a_plain_loop(scope: str, steps: int) -> None:
    episodes = _episodes(("px",) * 3)
    card = _card(("px",) * 3, episodes)
    ours = _errors(episodes, lambda e: e.predicted[0], steps)
    hold = _errors(episodes, lambda e: e.baselines["hold_state"], steps)
    known = card.summary()[scope]
    assert known["mae"]["value"] == pytest.approx(np.abs(ours).mean())
    assert known["mse"]["value"] == pytest.approx((ours**2).mean())
    assert known["rmse"]["value"] == pytest.approx(np.sqrt((ours**2).mean()))
    scaled = ours[:, :2] / np.array([2.0, 0.1])  # the third dim is constant: excluded
    assert known["nmae"]["value"] == pytest.approx(np.abs(scaled).mean(), rel=1e-6)
    assert known["nmse"]["value"] == pytest.approx((scaled**2).mean(), rel=1e-6)
    assert known["relative"]["value"] == pytest.approx(np.abs(ours).sum() / np.abs(hold).sum())
    assert known["mae"]["n_frames"] == sum(LENGTHS)
    gain = card.skill()["hold_state"][scope]
    assert gain["value"] == pytest.approx(1 - (ours**2).mean() / (hold**2).mean())
    assert gain["ci_low"] < gain["value"] < gain["ci_high"]


def test_by_horizon_by_dim_by_episode_and_by_task() -> None:
    episodes = _episodes(("px",) * 3)
    card = _card(("px",) * 3, episodes)
    for row in card.by_horizon():
        h = row["step"] - 1
        one = np.array(
            [
                e.predicted[0].values[t, h] - e.target.values[t, h]
                for e in episodes
                for t in range(len(e.frame_index))
                if not e.is_pad[t, h]
            ]
        )
        assert row["mae"] == pytest.approx(np.abs(one).mean())
        assert row["n_frames"] == len(one)
        assert row["seconds"] == pytest.approx(h / FPS)
        assert row["skill_hold_state"] == pytest.approx(card.skill()["hold_state"]["by_horizon"][h])
    for row in card.by_dim():
        steps = dict(SCOPES)[row["scope"]]
        one = _errors(episodes, lambda e: e.predicted[0], steps, (row["dim"],))
        assert row["mae"] == pytest.approx(np.abs(one).mean())
        assert row["excluded"] == (row["name"] == "z")
    for row in card.by_episode():
        group = [e for e in episodes if e.index == row["episode_index"]]
        one = _errors(group, lambda e: e.predicted[0], dict(SCOPES)[row["scope"]])
        assert row["mae"] == pytest.approx(np.abs(one).mean())
    for row in card.by_task():
        group = [e for e in episodes if e.tasks[0] == row["task"]]
        one = _errors(group, lambda e: e.predicted[0], dict(SCOPES)[row["scope"]])
        assert row["mse"] == pytest.approx((one**2).mean())
        assert row["n_episodes"] == len(group)
    macro = card.summary()["chunk"]["macro"]
    rows = [r["mae"] for r in card.by_episode() if r["scope"] == "chunk"]
    assert macro["episode"]["mae"] == pytest.approx(np.mean(rows))


def test_a_task_has_the_interval_of_a_run_of_its_episodes_alone() -> None:
    units = ("px",) * 3
    twice = [replace(e, index=e.index + 5 * k) for k in range(3) for e in _episodes(units)]
    draw = np.random.default_rng(0)
    episodes = [
        replace(e, target=NativeActions(e.target.values * draw.uniform(0.5, 2), units))
        for e in twice
    ]
    for row in _card(units, episodes).by_task():
        alone = _card(units, [e for e in episodes if e.tasks[0] == row.task])
        own = alone.summary()[row.scope].mae
        assert own.n_episodes >= 5
        assert row.ends("mae") == pytest.approx((own.ci_low, own.ci_high))
        gain = alone.skill()["hold_state"][row.scope]
        assert row.ends("skill_hold_state") == pytest.approx((gain.ci_low, gain.ci_high))


def test_an_episode_names_all_its_tasks() -> None:
    first = replace(_episodes(("px",) * 3)[0], tasks=("reach",) * 3 + ("grasp",) * 4)
    row = _card(("px",) * 3, [first]).by_episode()[0]
    assert (row.task, list(row.tasks)) == ("reach", ["reach", "grasp"])


def test_the_variance_ratio_stands_far_from_zero_and_is_undefined_alone() -> None:
    """Of actions around 10^7, and of a dim that rests in the sample while others move."""
    units = ("px",) * 3
    episodes = []
    for e in _episodes(units):
        moved = e.target.values + np.array([1e7, 0.0, 0.0])
        moved[..., 1] = 0.3
        ours = e.predicted[0].values + np.array([1e7, 0.0, 0.0])
        episodes.append(
            replace(
                e,
                target=NativeActions(moved, units),
                predicted=(NativeActions(ours, units),),
            )
        )
    stats = STATS | {"mean": [1e7 + 0.2, 0.1, 0.0]}
    card = Scorecard(
        ActionSchema(("x", "y", "z"), units), stats, horizon=H, n_action_steps=M, fps=FPS
    )
    for episode in episodes:
        card.add(episode)
    real = np.concatenate([e.target.values[~e.is_pad] for e in episodes])[:, 0]
    error = np.concatenate([(e.predicted[0].values - e.target.values)[~e.is_pad] for e in episodes])
    expected = (error[:, 0] ** 2).sum() / ((real - real.mean()) ** 2).sum()
    rows = {row.name: row for row in card.by_dim() if row.scope == "chunk"}
    assert rows["x"].variance_ratio == pytest.approx(expected, rel=1e-6)
    assert card.summary().chunk.variance_ratio == pytest.approx(expected, rel=1e-6)
    assert rows["y"].variance_ratio is None


def test_units_that_nobody_declared_are_not_one() -> None:
    units = ("native",) * 3
    card = _card(units, _episodes(units))
    assert card.basis == "normalized"
    assert card.summary().chunk.mae.value is None
    assert card.summary().chunk.nmae.value is not None
    assert card.similarity().unit == "std"
    assert ActionSchema(("x",), ("native",)).single_unit == "native"  # nothing to average


def test_distances_in_std_do_not_grow_with_the_number_of_dims() -> None:
    """Every dim off by its standard deviation: the distance is 1, of two dims as of one."""
    units = ("rad", "m", "m")
    off = np.array(STATS["std"])
    exact = [
        replace(e, predicted=(NativeActions(e.target.values + off, units),))
        for e in _episodes(units)
    ]
    card = _card(units, exact)
    assert card.similarity().ade.value == pytest.approx(1.0, rel=1e-6)
    assert card.similarity().fde.value == pytest.approx(1.0, rel=1e-6)


def test_the_noise_floor_is_the_deviation_of_white_noise() -> None:
    """On a straight line it is 0; with noise on it, that of the noise. A stride leaves no pairs."""
    draw = np.random.default_rng(0)
    units = ("px",) * 3
    length = 20_000
    line = np.arange(length)[:, None] * np.array([1.0, 0.1, 0.0])
    noisy = line + draw.normal(size=(length, 3)) * np.array([0.0, 0.5, 0.02])
    target = np.repeat(noisy[:, None], H, axis=1)
    episode = ScoredEpisode(
        index=0,
        frame_index=np.arange(length),
        tasks=("a",) * length,
        predicted=(NativeActions(target, units),),
        target=NativeActions(target, units),
        is_pad=np.zeros((length, H), bool),
        baselines={"hold_state": NativeActions(target + 1, units)},
    )
    floors = [row.noise_floor for row in _card(units, [episode]).by_dim()[:3]]
    assert floors == pytest.approx([0, 0.5, 0.02], rel=0.02, abs=1e-9)
    apart = replace(episode, frame_index=np.arange(length) * 2)
    assert _card(units, [apart]).by_dim()[0].noise_floor is None


def test_mixed_units_are_never_averaged() -> None:
    units = ("rad", "rad", "0-1")
    episodes = _episodes(units)
    card = _card(units, episodes)
    known = card.summary()["chunk"]
    assert card.basis == "normalized"
    assert known["mae"]["value"] is None
    assert known["nmae"]["value"] is not None
    one = _errors(episodes, lambda e: e.predicted[0], H, (0, 1))
    assert known["by_unit"]["rad"]["mae"]["value"] == pytest.approx(np.abs(one).mean())
    assert set(known["by_unit"]) == {"rad", "0-1"}
    scaled = {
        name: _errors(episodes, who, H, (0, 1)) / np.array([2.0, 0.1])
        for name, who in (
            ("policy", lambda e: e.predicted[0]),
            ("hold_state", lambda e: e.baselines["hold_state"]),
        )
    }
    expected = 1 - (scaled["policy"] ** 2).mean() / (scaled["hold_state"] ** 2).mean()
    assert card.skill()["hold_state"]["chunk"]["value"] == pytest.approx(expected, rel=1e-6)


def test_samples_average_what_is_deployed() -> None:
    episodes = _episodes(("px",) * 3, samples=3)
    card = _card(("px",) * 3, episodes)
    each = [_errors(episodes, lambda e, k=k: e.predicted[k], H) for k in range(3)]
    assert card.summary()["chunk"]["mse"]["value"] == pytest.approx(np.mean([e**2 for e in each]))
    assert card.summary()["chunk"]["mse"]["n_frames"] == sum(LENGTHS)
    scores = card.samples()
    assert scores is not None
    assert scores["k"] == 3
    assert _card(("px",) * 3, _episodes(("px",) * 3)).samples() is None


def test_samples_of_an_episode_with_several_tasks() -> None:
    """Sample scores look at whole episodes, whatever their tasks."""
    whole = _episodes(("px",) * 3, samples=2)
    split = [
        ScoredEpisode(**{**vars(e), "tasks": ("a",) * 3 + ("b",) * (len(e.tasks) - 3)})
        for e in whole
    ]
    ours, theirs = _card(("px",) * 3, split), _card(("px",) * 3, whole)
    assert ours.samples() == theirs.samples()
    assert {row["task"] for row in ours.by_task()} == {"a", "b"}
    a, b = (c.summary().chunk.mae.to_json() for c in (ours, theirs))
    assert a == pytest.approx(b)


def test_order_of_episodes_does_not_matter() -> None:
    episodes = _episodes(("px",) * 3)
    forwards, backwards = _card(("px",) * 3, episodes), _card(("px",) * 3, episodes[::-1])
    a, b = forwards.summary()["chunk"]["mae"], backwards.summary()["chunk"]["mae"]
    assert a["value"] == pytest.approx(b["value"])
    assert a["ci_low"] == pytest.approx(b["ci_low"])


def test_out_of_range_share() -> None:
    episodes = _episodes(("px",) * 3)
    outside = NativeActions(episodes[0].predicted[0].values + np.array([100.0, 0, 0]), ("px",) * 3)
    far = ScoredEpisode(**{**vars(episodes[0]), "predicted": (outside,)})
    rows = [r for r in _card(("px",) * 3, [far]).by_dim() if r["scope"] == "chunk"]
    assert [r["out_of_range_share"] for r in rows] == [1.0, 0.0, 0.0]


def test_shapes_leave_constant_dims_out_and_integrate_deltas() -> None:
    units = ("rad", "rad", "0-1")
    whole = _episodes(units)[0]
    off = NativeActions(whole.target.values + np.array([0, 0, 1e-3]), units)
    near = ScoredEpisode(**{**vars(whole), "predicted": (off,)})
    assert _card(units, [near]).similarity()["ade"]["value"] == 0.0
    schema = ActionSchema(("x", "y", "z"), ("m",) * 3)
    card = Scorecard(schema, STATS, horizon=H, n_action_steps=M, fps=FPS, action_kind="delta")
    step = NativeActions(whole.target.values + np.array([1.0, 0, 0]), ("m",) * 3)
    card.add(
        ScoredEpisode(
            **{
                **vars(whole),
                "target": NativeActions(whole.target.values, ("m",) * 3),
                "predicted": (step,),
                "baselines": {
                    n: NativeActions(b.values, ("m",) * 3) for n, b in whole.baselines.items()
                },
            }
        )
    )
    # one metre too far at each step: off by the number of steps walked
    walked = (~whole.is_pad).sum(axis=1)
    assert card.similarity()["fde"]["value"] == pytest.approx(walked.mean())
    assert card.smoothness()["n_seams"] == 0
