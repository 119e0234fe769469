"""Policies without a network: the trivial baselines, and the demonstration itself."""

from __future__ import annotations

import time
from typing import final

import numpy as np

from policyscope.baselines import baseline_actions
from policyscope.config import PolicyConfig
from policyscope.errors import UsageError
from policyscope.frames import FrameBatch, FrameSource
from policyscope.policies.base import Normalization, Policy, PolicySpec, Prediction
from policyscope.spaces import FloatArray, NativeActions

_NATIVE = Normalization("IDENTITY", "identity", "none")


def _spec(name: str, horizon: int, n_action_steps: int | None) -> PolicySpec:
    if n_action_steps is not None and n_action_steps > horizon:
        raise UsageError(
            "--n_action_steps",
            expected=f"at most {horizon}, the steps of a chunk",
            found=str(n_action_steps),
            fix=f"--n_action_steps {horizon}, or a longer --policy.chunk_size",
        )
    return PolicySpec(
        path=name,
        type=name,
        sha256=None,
        n_parameters=0,
        chunk_size=horizon,
        n_action_steps=n_action_steps or horizon,
        normalization=_NATIVE,
    )


@final
class BaselinePolicy(Policy):
    """Predicts a trivial baseline: one action, held over the chunk.

    Raises:
        UsageError: the dataset does not support this baseline.
    """

    def __init__(
        self,
        name: str,
        source: FrameSource,
        *,
        dims: tuple[int, ...],
        horizon: int = 16,
        n_action_steps: int | None = None,
        action_kind: str = "absolute",
    ) -> None:
        self.spec = _spec(name, horizon, n_action_steps)
        self._source, self._dims, self._kind = source, dims, action_kind
        self._actions: dict[int, FloatArray] = {}

    def predict(self, batch: FrameBatch) -> Prediction:
        """See `Policy.predict`."""
        start = time.perf_counter()
        rows = [
            self._of(int(e))[int(f)]
            for e, f in zip(batch.episode_index, batch.frame_index, strict=True)
        ]
        chunks = np.repeat(np.stack(rows)[:, None, :], self.spec.chunk_size, axis=1)
        units = self._source.facts.actions.select(self._dims).units
        return Prediction(
            NativeActions(chunks[..., list(self._dims)], units), time.perf_counter() - start
        )

    def _of(self, episode: int) -> FloatArray:
        if episode not in self._actions:
            self._actions.clear()  # frames come in order
            known = baseline_actions(
                self._source.episode(episode),
                stats=self._source.facts.stats,
                action_kind=self._kind,
            )
            if self.spec.type not in known:
                raise UsageError(
                    f"--policy.type {self.spec.type}",
                    expected="a state with the action's dims, and absolute actions",
                    found=f"{len(self._source.facts.state_names)} state dims, "
                    f"{self._source.facts.actions.dim} action dims, {self._kind} actions",
                    fix=f"--policy.type {sorted(known)[0]}",
                )
            self._actions[episode] = known[self.spec.type]
        return self._actions[episode]


@final
class ReplayPolicy(Policy):
    """Returns the demonstration itself, plus a constant: it scores exactly that constant."""

    def __init__(
        self,
        source: FrameSource,
        *,
        dims: tuple[int, ...],
        horizon: int = 16,
        n_action_steps: int | None = None,
        offset: float = 0.0,
    ) -> None:
        self.spec = _spec("replay", horizon, n_action_steps)
        self._source, self._dims, self._offset = source, dims, offset

    def predict(self, batch: FrameBatch) -> Prediction:
        """See `Policy.predict`."""
        start = time.perf_counter()
        rows = []
        for e, f in zip(batch.episode_index, batch.frame_index, strict=True):
            actions = self._source.episode(int(e)).actions.values
            steps = np.minimum(int(f) + np.arange(self.spec.chunk_size), len(actions) - 1)
            rows.append(actions[steps][:, list(self._dims)] + self._offset)
        units = self._source.facts.actions.select(self._dims).units
        return Prediction(NativeActions(np.stack(rows), units), time.perf_counter() - start)


def open_builtin(
    config: PolicyConfig,
    source: FrameSource,
    *,
    dims: tuple[int, ...],
    n_action_steps: int | None,
    action_kind: str,
) -> Policy:
    """The built-in policy that ``--policy.type`` names."""
    horizon = config.chunk_size
    if config.type == "replay":
        return ReplayPolicy(source, dims=dims, horizon=horizon, n_action_steps=n_action_steps)
    return BaselinePolicy(
        str(config.type),
        source,
        dims=dims,
        horizon=horizon,
        n_action_steps=n_action_steps,
        action_kind=action_kind,
    )
