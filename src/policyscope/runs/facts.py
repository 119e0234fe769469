"""What the numbers of a record are about: actions, tasks, simulators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, final

from pydantic import Field

from policyscope.runs.parts import Finite, Flag, Part, Whole

ActionKind = Literal["absolute", "delta"]


@final
class NormalizationFacts(Part):
    """How the policy's outputs became native."""

    mode: str
    stats_id: str | None
    source: Literal["checkpoint", "weights", "dataset", "none"]


@final
class Plane(Part):
    """Two dims that are a place in the picture."""

    x: Whole
    y: Whole
    width: Finite
    height: Finite


@final
class ActionFacts(Part):
    """What the numbers of an action mean."""

    names: Sequence[str]
    units: Sequence[str]
    space: Literal["native"]
    normalization: NormalizationFacts
    kind: ActionKind | Literal["unknown"]
    policy_dims: Sequence[Whole] | None = None
    """The dims that were compared, of the policy."""
    dataset_dims: Sequence[Whole] | None = None
    image_plane: Plane | None = None
    labels: Sequence[str] = ()
    """What people call the dims, where it is declared or known; empty where it is not."""

    @property
    def shown(self) -> Sequence[str]:
        """What to call the dims where people read."""
        return self.labels or self.names


@final
class TaskFacts(Part):
    """A task of a simulator."""

    task_group: str
    task_id: Whole
    task: str
    max_steps: Whole | None
    """Null where nobody noted it."""


@final
class EnvFacts(Part):
    """The simulator of a closed-loop run."""

    type: str
    task: str | None = None
    name: str
    tasks: Sequence[TaskFacts]
    fps: Annotated[Finite, Field(gt=0)]
    fps_known: Flag = True
    """Whether anybody says how long a step lasts; else nothing is in seconds."""
    success: str = "any"
    """When an episode counts as solved: if that is said at any step, or at its last one."""
    settings: str | None = None
    first_seed: Whole | None
    init_from: Literal["seed", "dataset", "unknown"]
    cameras: Mapping[str, Sequence[Whole]] = {}
    """Key → channels, height, width."""
    board: tuple[Finite, Finite] | None = None
    """Width and height where actions are positions on a board."""
