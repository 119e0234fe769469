"""The contract between a policy and the rest of policyscope."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Literal, final

from policyscope.actions.spaces import NativeActions
from policyscope.data.frames import FrameBatch
from policyscope.policies.kinds import Draws

StatsSource = Literal["checkpoint", "weights", "dataset", "none"]


@final
@dataclass(frozen=True)
class Normalization:
    """How a policy's outputs become native.

    Attributes:
        mode: lerobot's normalization mode, or ``IDENTITY``.
        stats_id: identifies mode and statistics.
        source: whose statistics: ``checkpoint``, ``weights`` (of a checkpoint without processor
            files), ``dataset`` or ``none``.
    """

    mode: str
    stats_id: str
    source: StatsSource


@final
@dataclass(frozen=True, kw_only=True)
class PolicySpec:
    """What the rest of policyscope needs to know about an opened policy.

    Attributes:
        path: as the user gave it, or the built-in's name.
        type: lerobot's policy type, or the built-in's name.
        sha256: of the weights, or None.
        n_parameters: of the network.
        chunk_size: steps of a predicted chunk (H).
        n_action_steps: steps of it that a robot runs.
        normalization: how outputs become native.
        keys: dataset keys that it reads.
        steps: observation steps relative to the frame, oldest first.
        draws: ``none`` is deterministic, ``noise`` starts from the reproducible noise rule,
            ``seeded`` can't be given noise and runs one frame at a time under a seed, ``unseeded``
            is somewhere else and draws, if it does, as it likes.
        dtype: of the parameters.
        device: where it runs.
        sampling: ``lerobot``: by its own code; ``faster``: by `policyscope.policies.smolvla`.
        compiled: whether the model is compiled.
        ensembling: coefficient of the temporal ensembling by which a robot runs its chunks, or
            None: chunk after chunk.
        identity: what tells it from others, where its path does not: a run that is resumed must
            agree on it.
        widened: whether bfloat16 weights run in float32, see `policies.precision`.
    """

    path: str
    type: str
    sha256: str | None = None
    n_parameters: int = 0
    chunk_size: int
    n_action_steps: int
    normalization: Normalization = Normalization("IDENTITY", "identity", "none")
    keys: frozenset[str] = field(default_factory=frozenset)
    steps: tuple[int, ...] = (0,)
    draws: Draws = "none"
    dtype: str = "float32"
    device: str = "cpu"
    sampling: Literal["lerobot", "faster"] = "lerobot"
    compiled: bool = False
    ensembling: float | None = None
    identity: str | None = None
    widened: bool = False

    @property
    def one_by_one(self) -> bool:
        """Whether its rows are asked one at a time anyhow, so that batches are no matter."""
        return self.draws == "seeded" or self.device == "remote"


@final
@dataclass(frozen=True)
class Prediction:
    """The answer to one batch.

    Attributes:
        actions: [B, H, A] chunks in native units.
        model_s: seconds of the model call alone.
    """

    actions: NativeActions
    model_s: float


@final
@dataclass(frozen=True)
class ControlStep:
    """Where the time of one control step with an empty queue went, at batch 1.

    Attributes:
        call_s: seconds of the model call.
        end_to_end_s: seconds from raw observation to native action (pre + model + post).
        pops_s: seconds of each following step that only takes an action from the queue.
        network_s: seconds of the end to end that were not the policy's but of the way to a server
            and back; None where there is none, or it does not say.
    """

    call_s: float
    end_to_end_s: float
    pops_s: tuple[float, ...]
    network_s: float | None = None


class Policy(ABC):
    """Predicts action chunks in native units."""

    spec: PolicySpec

    @abstractmethod
    def predict(self, batch: FrameBatch) -> Prediction:
        """A chunk for each row of the batch.

        The answer to a row depends on that row alone: not on its neighbours, on the order of
        batches, or on earlier calls.
        """

    @property
    def exact(self) -> bool:
        """Whether `predict` takes the plain road: float32, not compiled."""
        return True

    @property
    def borrows(self) -> bool:
        """Whether it is done with a batch's observations once it has answered.

        Only then is their memory used again: a policy that keeps pictures keeps its own.
        """
        return False

    def predict_plain(self, batch: FrameBatch) -> Prediction:
        """As `predict`, in float32 and not compiled."""
        return self.predict(batch)

    def stage(self, batch: FrameBatch) -> FrameBatch:
        """Bring a batch to where the policy computes; called ahead of time, in another thread.

        What it makes of the observations goes into `FrameBatch.staged`.
        """
        return batch

    def control_step(self, batch: FrameBatch) -> ControlStep | None:
        """Time one control step as a robot would meet it (batch of one), or None if meaningless."""
        del batch
        return None
