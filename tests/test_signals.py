"""Mistakes in time, in one dim and in what was asked, made by hand; and what may not be said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from policyscope.actions.spaces import ActionSchema, NativeActions
from policyscope.checks.ablation import Input, inputs_without_use, measured
from policyscope.checks.detector.findings import examine
from policyscope.checks.detector.hypotheses import Declared, Sample
from policyscope.checks.detector.signals import signals, standing
from policyscope.commands.check import looked_at

H, UNITS, NAMES = 8, ("px", "px", "rad"), ("x", "y", "wrist")
MEAN, STD = np.array([200.0, 300.0, 0.1]), np.array([70.0, 60.0, 0.3])
DECLARED = Declared(ActionSchema(NAMES, UNITS), None, STD)


class Demos:
    """Smooth demonstrations, and a policy that is off by a share of their deviation."""

    def __init__(self, n_episodes: int = 6, error: float = 0.15, seed: int = 0) -> None:
        draw = np.random.default_rng(seed)
        time = np.arange(70)[:, None] / 10
        self.actions = [
            MEAN + STD * 1.4 * np.sin(time * draw.uniform(0.8, 2, 3) + draw.uniform(0, 6, 3))
            for _ in range(n_episodes)
        ]
        self.error, self.draw = error, draw

    def chunks(self, shift: int = 0) -> np.ndarray:
        """[N, H, 3] predictions of every third frame, made `shift` frames earlier."""
        parts = []
        for actions in self.actions:
            for t in range(0, 60, 3):
                steps = np.clip(t - shift + np.arange(H), 0, len(actions) - 1)
                parts.append(actions[steps])
        noise = self.error * STD * self.draw.normal(size=(len(parts), 1, 3))
        return np.stack(parts) + noise

    def sample(self, predicted: np.ndarray) -> Sample:
        target, around, states, episode = [], [], [], []
        for index, actions in enumerate(self.actions):
            for t in range(0, 60, 3):
                target.append(actions[t : t + H])
                steps = t + np.arange(-H, H + 1)
                inside = (steps >= 0) & (steps < len(actions))
                near = actions[np.clip(steps, 0, len(actions) - 1)]
                around.append(np.where(inside[:, None], near, np.nan))
                states.append(actions[max(t - 1, 0)])
                episode.append(index)
        target_array = np.stack(target)
        return Sample(
            NativeActions(predicted, UNITS),
            NativeActions(target_array, UNITS),
            np.zeros(target_array.shape[:2], bool),
            np.array(episode),
            np.stack(states),
            np.stack(around).astype(np.float32),
            {
                "hold_state": np.stack(states),
                "dataset_mean": np.broadcast_to(MEAN, (len(states), 3)),
            },
        )


def codes(demos: Demos, predicted: np.ndarray) -> list[str]:
    return [f.code for f in signals(demos.sample(predicted), DECLARED)]


@pytest.mark.parametrize("n_episodes", [3, 6])
@pytest.mark.parametrize("error", [0.05, 0.3])
def test_each_mistake_is_named_and_a_clean_policy_is_not(n_episodes: int, error: float) -> None:
    demos = Demos(n_episodes, error)
    clean = demos.chunks()
    assert codes(demos, clean) == []
    assert codes(demos, clean[:, ::-1]) == ["suspect_reversed"]
    (late,) = signals(demos.sample(Demos(n_episodes, error).chunks(shift=7)), DECLARED)
    assert late.code == "suspect_late"
    assert late.evidence is not None
    assert -8 <= late.evidence["lag_frames"] <= -5
    frozen, shifted, wide = clean.copy(), clean.copy(), clean.copy()
    frozen[..., 1] = 300.0
    assert codes(demos, frozen) == ["suspect_frozen_dim"]
    shifted[..., 2] += 1.0 * STD[2]
    (found,) = signals(demos.sample(shifted), DECLARED)
    assert found.code == "suspect_stats"
    assert "wrist by +1" in found.message
    wide[..., 0] = MEAN[0] + 2 * (wide[..., 0] - MEAN[0])
    assert codes(demos, wide) == ["suspect_stats"]


def test_a_dim_that_is_off_is_named_only_where_the_others_are_right() -> None:
    """A policy that is wrong everywhere is not one with a mistake in its last dim."""
    demos = Demos()
    shifted = demos.chunks()
    shifted[..., 2] += STD[2]
    assert codes(demos, shifted) == ["suspect_stats"]
    noise = np.random.default_rng(1).normal(size=shifted[..., :2].shape)
    shifted[..., :2] += 1.2 * STD[:2] * noise  # no place and no scale explains these
    assert codes(demos, shifted) == []


def test_a_lazy_policy_is_not_late_and_a_still_one_is_not_reversed() -> None:
    demos = Demos()
    lazy = demos.chunks(shift=3)
    assert codes(demos, lazy) == []
    still = np.repeat(demos.chunks()[:, :1], H, axis=1)
    assert codes(demos, still) == []


def test_how_good_a_sample_is() -> None:
    demos = Demos()
    sample = demos.sample(demos.chunks())
    (good,) = standing(sample, DECLARED)
    assert (good.code, good.severity) == ("sample_skill", "info")
    assert good.evidence is not None
    ours = (((sample.predicted.values - sample.target.values) / STD) ** 2).mean()
    assert sample.state is not None
    held = (((sample.state[:, None] - sample.target.values) / STD) ** 2).mean()
    assert good.evidence["skill_hold_state"] == pytest.approx(1 - ours / held)
    (bad,) = standing(demos.sample(demos.chunks() + 0.8 * STD), DECLARED)
    assert (bad.code, bad.severity) == ("below_trivial", "warning")
    other = np.roll(demos.chunks(), 20, axis=0)  # the next episode's
    (mixed,) = standing(demos.sample(other), DECLARED)
    assert mixed.code == "suspect_unrelated"


def test_few_episodes_must_agree() -> None:
    demos = Demos(3)
    mixed = demos.chunks()
    mixed[:20] += 3 * STD  # one of three episodes
    (found,) = standing(demos.sample(mixed), DECLARED)
    assert found.code == "sample_skill"
    assert standing(replace(demos.sample(mixed), trivial={}), DECLARED) == []


def test_an_input_without_use_is_told_of_a_policy_that_is_worse_than_nothing() -> None:
    demos = Demos()
    sample = demos.sample(np.roll(demos.chunks(), 20, axis=0))
    swapped = np.roll(demos.chunks(), 40, axis=0)
    camera = Input("wrist", "camera")
    ablation = measured({camera: swapped}, sample, STD, n_tasks=1)
    found = {f.code for f in looked_at(sample, DECLARED, ablation)}
    assert {"input_without_use", "suspect_unrelated", "inputs_used"} <= found
    right = demos.sample(demos.chunks())
    used = measured({camera: swapped}, right, STD, n_tasks=1)
    assert used is not None
    assert inputs_without_use(used) == []
    assert [f.severity for f in looked_at(right, DECLARED, used)] == ["info", "info"]
    black = measured({camera: right.predicted.values}, right, STD, n_tasks=1)
    (ignored,) = [f for f in looked_at(right, DECLARED, black) if f.severity == "warning"]
    assert ignored.code == "camera_ignored"
    assert examine(right, DECLARED) == ()
