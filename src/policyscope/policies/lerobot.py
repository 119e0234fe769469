"""Policies that lerobot trained: its own classes and processors, called with care.

With `opening` and `smolvla` the only modules that touch lerobot's policies and processors.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, final

import numpy as np

from policyscope.actions.robots import Robot
from policyscope.actions.spaces import NativeActions, NormalizedActions
from policyscope.config import PolicyOptions
from policyscope.data.facts import ACTION
from policyscope.data.frames import FrameBatch
from policyscope.data.pictures import Buffers, Loan, unit_range
from policyscope.errors import (
    CheckpointError,
    NonFiniteError,
    OutOfMemoryError,
    SpaceError,
    UsageError,
    first_line,
)
from policyscope.policies.alignment import Alignment
from policyscope.policies.base import ControlStep, Policy, PolicySpec, Prediction
from policyscope.policies.checkpoint import Checkpoint
from policyscope.policies.kinds import Read
from policyscope.policies.linear import by_onednn
from policyscope.policies.noise import noise_seed, standard_normal
from policyscope.policies.opening import (
    load_policy,
    load_processors,
    normalization_of,
    pick_device,
    policy_config,
    robot_stats,
)
from policyscope.policies.precision import widened
from policyscope.policies.sharing import pictures_once, shares, sharing
from policyscope.policies.smolvla import Sampler, speed_up

if TYPE_CHECKING:
    import torch

Tensors = dict[str, Any]


@final
class LerobotPolicy(Policy):
    """A LeRobot checkpoint with its saved processors.

    Attributes:
        spec: what the rest of policyscope needs to know.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        robot: Robot,
        alignment: Alignment,
        config: PolicyOptions,
    ) -> None:
        """Load the weights and the processors.

        Raises:
            CheckpointError: lerobot can't open it, or keys of the network lack weights.
            MissingStatsError: the statistics that make its outputs native are missing.
        """
        self._alignment, self._seed = alignment, config.noise_seed
        self._device, self._buffers = pick_device(config.device), Buffers()
        self._autocast, self._copy_stream = config.dtype == "bfloat16", None
        self._config = policy_config(checkpoint, self._device)
        self._policy = load_policy(checkpoint, self._config)
        wide = self._device == "cpu" and not self._autocast and widened(self._policy)
        self._sampler = None
        if config.policy.sampling == "auto":
            self._sampler = self._hastened(checkpoint)
        stats = robot_stats(robot, alignment, checkpoint) if config.stats == "dataset" else None
        self._pre, self._post = load_processors(checkpoint, self._config, self._device, stats)
        normalization = normalization_of(checkpoint, stats, force=config.force)
        self._kind, read = checkpoint.kind, _reader(self._config)
        self._noise_shape = self._kind.noise(read)
        steps = _seen_steps(self._config.observation_delta_indices)
        chunk_size = self._kind.chunk(read) or 1
        n_action_steps = _executed(checkpoint, config.n_action_steps, chunk_size)
        if hasattr(self._config, "chunk_size"):  # elsewhere it is the length of a prediction
            self._config.n_action_steps = n_action_steps
            self._policy.reset()
        self._method, self._compiled = self._policy.predict_action_chunk, config.compile
        if config.compile and self._sampler is not None:
            self._sampler.compile()
        elif config.compile:
            import torch

            self._method = torch.compile(self._method)
        self.spec = PolicySpec(
            path=checkpoint.path,
            type=checkpoint.type,
            sha256=checkpoint.sha256,
            n_parameters=sum(p.numel() for p in self._policy.parameters()),
            chunk_size=chunk_size,
            n_action_steps=n_action_steps,
            normalization=normalization,
            keys=frozenset(alignment.feeds.values()),
            steps=steps,
            draws="seeded"
            if self._kind.draws == "noise" and self._noise_shape is None
            else self._kind.draws,
            dtype=str(next(self._policy.parameters()).dtype).removeprefix("torch."),
            device=self._device,
            sampling="lerobot" if self._sampler is None else "faster",
            compiled=self._compiled,
            ensembling=checkpoint.ensembling,
            widened=wide,
        )

    def _hastened(self, checkpoint: Checkpoint) -> Sampler | None:
        if self._device == "cpu":
            by_onednn(self._policy)
        return speed_up(self._policy) if checkpoint.kind.fast else None

    def predict(self, batch: FrameBatch) -> Prediction:
        """See `Policy.predict`."""
        if self.spec.draws == "seeded" and len(batch) > 1:
            single = [self.predict(batch[i : i + 1]) for i in range(len(batch))]
            values = np.concatenate([p.actions.values for p in single])
            return Prediction(
                NativeActions(values, self._alignment.schema.units), sum(p.model_s for p in single)
            )
        with (
            self._calling(batch),
            self._buffers.loan() as loan,
            self._seen_once(batch) as seen,
            self._encoded_once(seen),
        ):
            observation = self._observe(seen, loan)
            noise = self._noise(batch)
            start = time.perf_counter()
            chunk = self._call(self._method, observation, noise, batch)
            self._synchronize()
            model_s = time.perf_counter() - start
        return Prediction(self._to_native(self._normalized(chunk, len(batch)), batch), model_s)

    def control_step(self, batch: FrameBatch) -> ControlStep:
        """See `Policy.control_step`. The queue pops are those of the policy's own action queue."""
        self._synchronize()
        begin = time.perf_counter()
        observation = self._observe(batch, all_steps=False)
        takes_noise = "noise" in inspect.signature(self._policy.select_action).parameters
        noise = self._noise(batch) if takes_noise else None  # PI0's own loop draws it itself
        self._synchronize()
        called = time.perf_counter()
        action = self._call(self._policy.select_action, observation, noise, batch)
        self._synchronize()
        answered = time.perf_counter()
        self._post(action)
        end = time.perf_counter()
        pops = []
        for _ in range(self.spec.n_action_steps - 1):
            start = time.perf_counter()
            self._call(self._policy.select_action, observation, noise, batch)
            self._synchronize()
            pops.append(time.perf_counter() - start)
        self._policy.reset()
        return ControlStep(answered - called, end - begin, tuple(pops))

    @contextlib.contextmanager
    def _calling(self, batch: FrameBatch) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever a policy class raises on inputs it can't use
            if _is_out_of_memory(error):
                raise OutOfMemoryError(
                    f"{self.spec.path} on {self._device}",
                    expected=f"memory for a batch of {len(batch)}",
                    found=first_line(error),
                    fix="--batch_size 1, a smaller checkpoint, or a larger device",
                ) from error
            raise CheckpointError(
                f"{self.spec.path}, called on episode {batch.episode_index[0]}, frame "
                f"{batch.frame_index[0]}",
                expected="an action chunk",
                found=f"{type(error).__name__}: {first_line(error)}",
                fix="check that its inputs fit this dataset (policyscope check); --debug shows "
                "where it failed",
            ) from error

    @contextlib.contextmanager
    def _seen_once(self, batch: FrameBatch) -> Iterator[FrameBatch]:
        """The observations that the network has to look at: of several predictions of one frame,
        which differ by their noise alone, it needs one, where its sampling is known to share.
        """
        import torch

        known = self._sampler is not None or shares(self.spec.type, self._policy)
        alone = len(batch) == batch.frames[-1] + 1
        if alone or not known or self._noise_shape is None or self._compiled:
            yield batch
            return
        rows = torch.from_numpy(batch.frames).to(self._device)
        shared: contextlib.AbstractContextManager[None] = (
            sharing(self.spec.type, self._policy, rows)
            if self._sampler is None
            else self._sampler.sharing(rows)
        )
        with shared:
            yield batch.once()

    def _encoded_once(self, batch: FrameBatch) -> contextlib.AbstractContextManager[None]:
        """A batch whose frames look at each other's pictures, where the network is known."""
        steps = self.spec.steps
        if self.spec.type != "diffusion" or len(steps) == 1 or self._compiled:
            return contextlib.nullcontext()
        return pictures_once(self._policy, batch.episode_index, batch.frame_index, steps)

    def _observe(
        self, batch: FrameBatch, loan: Loan | None = None, *, all_steps: bool = True
    ) -> Tensors:
        """Preprocessed model inputs; policies with observation queues get them filled."""
        import torch
        from lerobot.policies.utils import populate_queues
        from lerobot.utils.constants import OBS_IMAGES

        self._policy.reset()
        queues = getattr(self._policy, "_queues", None) or {}
        stacked: Tensors = {}
        feeds = self._alignment.feeds
        for i in range(0 if all_steps else -1, len(batch.observations) if all_steps else 0):
            seen = {key: self._tensor(batch, i, key, loan) for key in dict.fromkeys(feeds.values())}
            raw = {key: seen[source] for key, source in feeds.items()}
            stacked = dict(self._pre({**raw, "task": list(batch.task)}))
            if OBS_IMAGES in queues and all_steps:
                cameras = [stacked[key] for key in self._config.image_features]
                stacked[OBS_IMAGES] = torch.stack(cameras, dim=-4)
            if all_steps:
                populate_queues(queues, stacked, exclude_keys=[ACTION])
        return {key: value for key, value in stacked.items() if key != ACTION}

    def _tensor(self, batch: FrameBatch, step: int, key: str, loan: Loan | None) -> torch.Tensor:
        """What is seen at a step, where the policy computes; pictures as floats in [0, 1]."""
        import torch

        if self._device == "cpu":
            return torch.from_numpy(unit_range(batch.observations[step][key], loan))
        if batch.staged is not None:
            there: torch.Tensor = batch.staged[step][key]
        else:
            there = torch.from_numpy(batch.observations[step][key]).to(self._device)
        if there.dtype != torch.uint8:
            return there
        divisor = torch.full((), 255.0, device=there.device)  # no multiplication by 1/255
        return there.contiguous().float() / divisor

    def _noise(self, batch: FrameBatch) -> torch.Tensor | None:
        if self._noise_shape is None:
            return None
        import torch

        drawn = [standard_normal(self._noise_shape, seed) for seed in self._seeds(batch)]
        return torch.stack(drawn).to(self._device)

    def _seeds(self, batch: FrameBatch) -> list[int]:
        rows = zip(batch.episode_index, batch.frame_index, batch.sample, strict=True)
        return [noise_seed(self._seed, int(e), int(f), int(k)) for e, f, k in rows]

    def _call(
        self,
        call: Callable[..., torch.Tensor],
        observation: Tensors,
        noise: torch.Tensor | None,
        batch: FrameBatch,
    ) -> torch.Tensor:
        import torch

        extra = {} if noise is None else {"noise": noise}
        with torch.inference_mode(), contextlib.ExitStack() as stack:
            if self.spec.draws == "seeded":
                devices = range(torch.cuda.device_count()) if self._device == "cuda" else ()
                stack.enter_context(torch.random.fork_rng(devices=devices))
                torch.manual_seed(self._seeds(batch)[0])
            if self._autocast:
                stack.enter_context(torch.autocast(self._device, torch.bfloat16))
            answer: torch.Tensor = call(dict(observation), **extra)
        return answer

    @property
    def borrows(self) -> bool:
        """See `Policy.borrows`: its queues are emptied before they are filled again."""
        return True

    @property
    def exact(self) -> bool:
        """See `Policy.exact`."""
        return not self._autocast and not self._compiled

    def predict_plain(self, batch: FrameBatch) -> Prediction:
        """See `Policy.predict_plain`."""
        road = self._autocast, self._method
        self._autocast, self._method = False, self._policy.predict_action_chunk
        plain = contextlib.nullcontext() if self._sampler is None else self._sampler.plain()
        try:
            with plain:
                return self.predict(batch)
        finally:
            self._autocast, self._method = road

    def stage(self, batch: FrameBatch) -> FrameBatch:
        """See `Policy.stage`: copies of page-locked pictures overlap the model's work."""
        if self._device != "cuda":
            return batch
        import torch

        with torch.cuda.stream(self._copying()):
            staged = tuple(
                {
                    key: torch.from_numpy(value).to(self._device, non_blocking=True)
                    for key, value in step.items()
                }
                for step in batch.observations
            )
        self._copying().synchronize()  # of this thread alone
        return dataclasses.replace(batch, staged=staged)

    def _copying(self) -> Any:
        import torch

        if self._copy_stream is None:
            self._copy_stream = torch.cuda.Stream()
        return self._copy_stream

    def _normalized(self, chunk: torch.Tensor, rows: int) -> NormalizedActions:
        if self._kind.step_first and chunk.ndim == 3:
            chunk = chunk.transpose(0, 1)
        n, declared = self.spec.chunk_size, int(self._config.action_feature.shape[0])
        if chunk.ndim != 3 or len(chunk) != rows or chunk.shape[1] < n or chunk.shape[2] < declared:
            raise CheckpointError(
                f"predictions of {self.spec.path}",
                expected=f"chunks of shape [{rows}, {n}, {declared}]",
                found=str(list(chunk.shape)),
                fix="check chunk_size and output_features in config.json",
            )
        values = chunk[:, :n, :declared].float().cpu().numpy()
        return NormalizedActions(values, self.spec.normalization.stats_id)

    def _to_native(self, chunk: NormalizedActions, batch: FrameBatch) -> NativeActions:
        """lerobot's own postprocessor, for chunks that were normalized with its statistics."""
        import torch

        if chunk.stats_id != self.spec.normalization.stats_id:
            raise SpaceError(
                "normalized actions",
                expected=f"statistics {self.spec.normalization.stats_id}",
                found=chunk.stats_id,
                fix="bring actions back with the processors of the policy that made them",
            )
        native = self._post(torch.from_numpy(chunk.values.astype(np.float32)))
        values = native.float().cpu().numpy()[..., list(self._alignment.policy_dims)]
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            row, step, dim = (int(i) for i in bad[0])
            raise NonFiniteError(
                f"predictions of {self.spec.path}",
                expected="finite numbers",
                found=f"{values[row, step, dim]} in episode {batch.episode_index[row]}, frame "
                f"{batch.frame_index[row]}, horizon step {step + 1}, dim "
                f"{self._alignment.schema.names[dim]}",
                fix="the training diverged, or statistics hold zeros: take another checkpoint",
            )
        return NativeActions(values, self._alignment.schema.units)

    def _synchronize(self) -> None:
        if self._device == "cuda":
            import torch

            torch.cuda.synchronize()


def _is_out_of_memory(error: Exception) -> bool:
    import torch

    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def _reader(config: Any) -> Read:
    """Fields of lerobot's configuration, and the dims of the action that it declares."""

    def read(name: str) -> Any:
        if name == "action_dim":
            return int(config.action_feature.shape[0])
        return getattr(config, name, None)

    return read


def _seen_steps(declared: Iterable[int] | None) -> tuple[int, ...]:
    """Which observations an answer needs, relative to the current one; oldest first.

    TD-MPC and world models also declare coming ones: they learn from them, a robot has none.
    """
    return tuple(int(i) for i in declared or () if i <= 0) or (0,)


def _executed(checkpoint: Checkpoint, wanted: int | None, chunk_size: int) -> int:
    """Steps of each chunk that a robot runs.

    Raises:
        UsageError: more are wanted than there are, or an ensemble runs one a chunk.
    """
    if checkpoint.ensembling is not None and wanted not in (None, 1):
        raise UsageError(
            "--n_action_steps",
            expected="1: with temporal ensembling a robot asks for a chunk at every step",
            found=str(wanted),
            fix="leave it out",
        )
    n_action_steps = wanted or checkpoint.n_action_steps or chunk_size
    if n_action_steps > chunk_size:
        raise UsageError(
            "--n_action_steps",
            expected=f"at most {chunk_size}, the steps of a predicted chunk",
            found=str(n_action_steps),
            fix=f"--n_action_steps {chunk_size}",
        )
    return n_action_steps
