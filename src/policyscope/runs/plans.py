"""What determines a run: one that is resumed must agree on all of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Literal, final

from policyscope.runs.parts import Episodes, Flag, Number, Part, Whole, spans


class RunPlan(Part):
    """What plans of both kinds of runs hold."""

    policy: str | None
    """sha256 of its weights, or its name."""
    processors: str | None
    """sha256 of what stands around its network."""
    forced: Sequence[str]
    """Codes of findings that were passed over."""
    chunk_size: Whole | None
    n_action_steps: Whole | None
    sampling: str
    feeds: Mapping[str, str]


@final
class OfflinePlan(RunPlan):
    """What determines the predictions of an offline run."""

    action_kind: Literal["absolute", "delta"]
    dataset: str | None
    """Revision of its metadata."""
    episodes: Episodes
    max_frames: Whole | None
    spread: Literal[True] | None = None
    """Frames of all episodes in turn, in the order that a time budget asks for."""
    stride: Whole
    dtype: str
    compile: Flag
    video_backend: str
    samples: Whole
    seed: int
    stats: str
    policy_dims: Sequence[Whole]
    dataset_dims: Sequence[Whole]
    units: Sequence[str]
    actions: str | None = None
    """What a file declares of the dims, as a hash: it decides how predictions are measured."""


@final
class PlannedSeeds(Part):
    """Episodes of one task that follow one another."""

    group: str | None
    task_id: Whole
    max_steps: Whole
    seeds: Episodes
    demonstrations: Episodes | None


@final
class PlannedStop(Part):
    """When a closed-loop run stops before its last episode."""

    rate: Number
    """Once the success rate is shown to lie on one side of this; null not to."""
    width: Number
    """Once its interval is this wide at most; null not to."""


@final
class RolloutPlan(RunPlan):
    """What determines the episodes of a closed-loop run."""

    kind: Literal["rollout"]
    env: Sequence[str | Sequence[str] | None]
    """Its type, task, settings and the texts of its tasks."""
    episodes: Sequence[PlannedSeeds]
    until: PlannedStop | None = None
    """Then `episodes` are the most that may run."""
    success: str = "any"
    noise_seed: int
    batch_size: str
    device: str


def planned_seeds(
    episodes: Iterable[tuple[str | None, int, int, int, int | None]],
) -> list[PlannedSeeds]:
    """Episodes, briefly.

    Args:
        episodes: group, task id, seed, most steps and demonstration of each, in order.
    """
    found = []
    for (group, task_id, most, shown), same in groupby(
        episodes, key=lambda e: (e[0], e[1], e[3], e[4] is not None)
    ):
        listed = list(same)
        demonstrations = [d for *_, d in listed if d is not None]
        found.append(
            PlannedSeeds(
                group=group,
                task_id=task_id,
                max_steps=most,
                seeds=[seed for _, _, seed, _, _ in listed],
                demonstrations=demonstrations if shown else None,
            )
        )
    return found


def upgraded_plan(plan: Mapping[str, Any]) -> Mapping[str, Any]:
    """A plan of any version with its episodes as this one writes them.

    Version 0.1 listed them one by one.

    Raises:
        ValueError: they are listed in another way.
    """
    episodes = plan.get("episodes")
    if not isinstance(episodes, list) or not episodes:
        return plan
    if all(isinstance(e, int) for e in episodes):
        return {**plan, "episodes": spans(episodes)}
    if all(isinstance(e, list) and len(e) == 5 for e in episodes):
        listed = planned_seeds((e[0], e[1], e[2], e[3], e[4]) for e in episodes)
        return {**plan, "episodes": [one.to_json() for one in listed]}
    return plan
