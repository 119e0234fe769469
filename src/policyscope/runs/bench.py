"""bench.json: how fast a policy answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, final

from policyscope.runs.content import Environment, PolicyFacts
from policyscope.runs.parts import Finite, Flag, Part, Whole
from policyscope.runs.values import Latency


@final
class BatchSpeed(Part):
    """Repeated calls on one batch; `whole` is with the processors around the model.

    The first call compiles, where that is asked for, and is in no other number.
    """

    batch_size: Whole
    out_of_memory: Literal[False] = False
    n: Whole
    first_ms: Finite
    model_ms: Finite
    model_ms_min: Finite
    model_ms_max: Finite
    whole_ms: Finite
    samples_per_s: Finite
    samples_per_s_whole: Finite


@final
class TooLarge(Part):
    """A batch that did not fit into memory."""

    batch_size: Whole
    out_of_memory: Literal[True] = True


@final
class Road(Part):
    """What was measured in one way of running the model."""

    dtype: str
    compile: Flag
    latency: Latency
    throughput: Sequence[BatchSpeed | TooLarge]

    @property
    def name(self) -> str:
        """What to call it."""
        return self.dtype + (", compiled" if self.compile else "")


@final
class BenchDataset(Part):
    """Whose frames were shown."""

    repo_id: str
    fps: Finite


@final
class BenchRecord(Part):
    """A finished measurement."""

    policy: PolicyFacts
    dataset: BenchDataset
    cameras: Mapping[str, Sequence[Whole]]
    """Key → channels, height, width."""
    roads: Sequence[Road]
    environment: Environment
