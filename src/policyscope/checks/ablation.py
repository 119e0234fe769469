"""Does it look, does it read? The same frames asked again with one input taken from elsewhere.

Pictures and states come from frames of other episodes in the same batch, which are decoded
already: each frame gives to one other. The noise belongs to the frame, not to what it sees.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.robots import Robot
from policyscope.actions.spaces import FloatArray
from policyscope.checks.detector.hypotheses import Sample
from policyscope.data.frames import FrameBatch
from policyscope.errors import Finding
from policyscope.metrics.ablation import IGNORED_BELOW, effect
from policyscope.policies.base import Policy, PolicySpec
from policyscope.runs.values import AblatedInput, Ablation, Value

TASK = "task"
NEUTRAL = "do something"
"""The instruction that stands in where a dataset has but one."""
SEED = 0
_GAIN = 0.1  # of the error, by which an input that is right shows its use

Kind = Literal["camera", "state", "instruction"]


@final
@dataclass(frozen=True)
class Input:
    """Something that a policy reads.

    Attributes:
        key: of the dataset; ``task`` for the instruction.
        kind: what it is.
    """

    key: str
    kind: Kind


def inputs_of(spec: PolicySpec, robot: Robot, *, language: bool) -> tuple[Input, ...]:
    """What a policy reads: cameras first, then numbers, then the instruction."""
    cameras = sorted(spec.keys & robot.cameras.keys())
    return (
        *(Input(key, "camera") for key in cameras),
        *(Input(key, "state") for key in sorted(spec.keys - robot.cameras.keys())),
        *([Input(TASK, "instruction")] if language else []),
    )


@final
class Ablator:
    """Asks a policy again about batches that it has answered, input by input.

    Args:
        policy: what to ask.
        inputs: what to replace, one at a time.
        tasks: all instructions of the dataset.
        most: no further batch is asked about once it has so many frames, ...
        patience_s: ... or has spent so much time.
        batch_size: frames a model call, at most.
    """

    def __init__(
        self,
        policy: Policy,
        inputs: Sequence[Input],
        tasks: Sequence[str],
        *,
        most: int,
        patience_s: float = float("inf"),
        batch_size: int = 32,
    ) -> None:
        self._policy, self._inputs = policy, tuple(inputs)
        self._most, self._patience, self._batch_size = most, patience_s, batch_size
        self._tasks = tuple(dict.fromkeys(tasks))
        self._asked: dict[Input, list[FloatArray]] = {one: [] for one in self._inputs}
        self._spent = 0.0

    @property
    def n_frames(self) -> int:
        """Frames asked about so far; they are the first that were given."""
        return sum(len(part) for part in next(iter(self._asked.values()), ()))

    @property
    def willing(self) -> bool:
        """Whether there is anything to replace, and frames and time are left."""
        return bool(self._inputs) and self.n_frames < self._most and self._spent < self._patience

    def ask(self, batch: FrameBatch) -> None:
        """Ask about a batch, once an input; where one episode holds most of it, about none."""
        donors = other_episodes(batch.episode_index, SEED + self.n_frames)
        if donors is None:
            self._spent = float("inf")
            return
        began = time.perf_counter()
        for one, parts in self._asked.items():
            other = self._replaced(batch, one, donors)
            parts += [
                self._policy.predict(other[at : at + self._batch_size]).actions.values
                for at in range(0, len(other), self._batch_size)
            ]
        self._spent += time.perf_counter() - began

    def _replaced(self, batch: FrameBatch, one: Input, donors: NDArray[np.int64]) -> FrameBatch:
        if one.kind == "instruction":
            texts = self._tasks
            task = tuple(
                texts[(texts.index(text) + 1) % len(texts)] if len(texts) > 1 else NEUTRAL
                for text in batch.task
            )
            return replace(batch, task=task, loan=None)
        seen = tuple({**step, one.key: step[one.key][donors]} for step in batch.observations)
        return replace(batch, observations=seen, loan=None, staged=None)

    def predictions(self) -> dict[Input, FloatArray]:
        """Input → [N, H, A] native chunks of the first N frames with that input replaced."""
        return {one: np.concatenate(parts) for one, parts in self._asked.items() if parts}


def other_episodes(episode: NDArray[np.int64], seed: int) -> NDArray[np.int64] | None:
    """For each of N rows another row, of another episode; every row is taken once.

    Rows stand together by episode, in an order drawn from the seed, and take what lies as many
    places further on as the longest episode has rows. None where one episode has more than half.
    """
    names, counts = np.unique(episode, return_counts=True)
    if 2 * counts.max() > len(episode):
        return None
    draw = np.random.default_rng(seed)
    order = draw.permutation(len(episode))
    place = draw.permutation(len(names))[np.searchsorted(names, episode[order])]
    order = order[np.argsort(place, kind="stable")]
    donors = np.empty_like(order)
    donors[order] = np.roll(order, -counts.max())
    return donors


def measured(
    replaced: Mapping[Input, FloatArray], sample: Sample, std: FloatArray, *, n_tasks: int
) -> Ablation | None:
    """What each input is worth; None where nothing was replaced.

    Args:
        replaced: input → [M, H, A] native chunks of the sample's first M frames.
        sample: predictions with their own inputs, and demonstrations.
        std: [A] the dataset's standard deviations.
        n_tasks: instructions that the dataset has.
    """
    rows: list[AblatedInput] = []
    error: Value | None = None
    n = len(next(iter(replaced.values()), ()))
    for one, values in replaced.items():
        known = effect(
            sample.predicted.values[:n],
            values,
            sample.target.values[:n],
            sample.is_pad[:n],
            sample.episode[:n],
            std,
        )
        error = known.error.measured()
        alone = one.kind == "instruction" and n_tasks < 2
        told = one.kind == "instruction"
        rows.append(
            AblatedInput(
                key=one.key,
                kind=one.kind,
                replaced_by=("neutral_text" if alone else "another_task")
                if told
                else "another_episode",
                text=NEUTRAL if alone else None,
                use=known.use,
                change=known.change.measured(),
                error=known.replaced.measured(),
                error_ratio=known.ratio.measured(),
            )
        )
    if error is None:
        return None
    return Ablation(
        n_frames=n,
        n_episodes=len(np.unique(sample.episode[:n])),
        seed=SEED,
        ignored_below=IGNORED_BELOW,
        error=error,
        inputs=rows,
    )


def ablation_findings(ablation: Ablation) -> list[Finding]:
    """What is ignored."""
    return [_ignored(row) for row in ablation.inputs if row.use == "ignored"]


def inputs_without_use(ablation: Ablation) -> list[Finding]:
    """Inputs that predictions depend on without gain: for a policy of which something is wrong."""
    found = []
    for row in ablation.inputs:
        ratio, change = row.error_ratio, row.change
        gains = (ratio.value or 1) > 1 + _GAIN and (ratio.ci_low or 2) > 1
        if row.kind == "instruction" or row.use == "ignored" or gains:
            continue
        ends = f" [{ratio.ci_low:.2f}, {ratio.ci_high:.2f}]" if ratio.ci_low is not None else ""
        suspect = (
            "not the picture that belongs here: upside down, another camera's, another frame's"
            if row.kind == "camera"
            else "not this frame's state, or normalized by other statistics"
        )
        found.append(
            Finding(
                "input_without_use",
                "info",
                f"expected less error with a frame's own {row.key} than with another episode's; "
                f"found this not shown: {ratio.value or 1.0:.2f}{ends} times the error with the "
                f"other one, while predictions move by {_few(change.value)} std. Suspect: what the "
                f"policy gets is {suspect}.",
                "compare what reaches the policy with the training's",
                evidence={"error_ratio": ratio.value or 1.0, "change_std": change.value or 0.0},
            )
        )
    return found


def inputs_used(ablation: Ablation) -> Finding:
    """What each input did, for whoever sees no table."""
    shown = []
    for row in ablation.inputs:
        ratio, change = row.error_ratio, row.change.value
        text = f"{row.key} moves them by {_few(change)} std"
        if row.replaced_by == "neutral_text":
            text += " (one task in the dataset: its use can't be judged by the error)"
        elif ratio.value is not None:
            ends = f" [{ratio.ci_low:.2f}, {ratio.ci_high:.2f}]" if ratio.ci_low is not None else ""
            text += f" and makes the error {ratio.value:.2f}{ends} times as large"
        shown.append(text)
    return Finding(
        "inputs_used",
        "info",
        f"expected predictions that depend on what the policy reads; found, on "
        f"{ablation.n_frames} frames with one input taken from another episode: "
        f"{'; '.join(shown)}.",
        "nothing to do; policyscope eval --ablate asks about more frames",
    )


def _ignored(row: AblatedInput) -> Finding:
    change, ratio = row.change, row.error_ratio
    words = {"another_episode": "another episode's", "another_task": "another task's text"}
    by = words.get(row.replaced_by, f"the text “{row.text}”")
    found = (
        f"found that {by} moves them by {_few(change.value)} std on average"
        + (f", at most {_few(change.ci_high)} (95 %)" if change.value else "")
        + f"; ignored means less than {IGNORED_BELOW:g}"
    )
    if ratio.value is not None:
        found += f"; the error is {ratio.value:.2f} times as large"
    evidence = {"change_std": change.value or 0.0, "change_std_high": change.ci_high or 0.0}
    if row.kind == "camera":
        return Finding(
            "camera_ignored",
            "warning",
            f"expected predictions that depend on {row.key}; {found}. The policy ignores it.",
            "check that its pictures reach the policy as in training, and that they vary at all; "
            "a policy that was trained without it has no use for it",
            evidence=evidence,
        )
    if row.kind == "state":
        return Finding(
            "state_ignored",
            "info",
            f"expected predictions that depend on {row.key}; {found}. The policy ignores it.",
            "nothing to do if it was trained to look alone; else check that the state reaches it",
            evidence=evidence,
        )
    return Finding(
        "instruction_ignored",
        "info" if row.replaced_by == "neutral_text" else "warning",
        f"expected predictions that depend on the instruction; {found}. The policy ignores it.",
        "nothing to do where there is one task; else check that the text reaches the policy",
        evidence=evidence,
    )


def _few(value: float | None) -> str:
    return "–" if value is None else "0" if value == 0 else f"{value:.2g}"
