"""Policies that lerobot trained: its own classes and processors, opened and called with care.

The only module that touches lerobot's policy and processor classes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import io
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, final

import numpy as np

from policyscope.alignment import Alignment
from policyscope.checkpoint import Checkpoint
from policyscope.config import EvalConfig
from policyscope.errors import (
    CheckpointError,
    NonFiniteError,
    OutOfMemoryError,
    SpaceError,
    UsageError,
)
from policyscope.facts import ACTION, DatasetFacts
from policyscope.frames import FrameBatch
from policyscope.hub import first_line
from policyscope.noise import noise_seed, standard_normal
from policyscope.pictures import Buffers, unit_range
from policyscope.policies.base import (
    ControlStep,
    Draws,
    Normalization,
    Policy,
    PolicySpec,
    Prediction,
)
from policyscope.spaces import NativeActions, NormalizedActions, stats_id

if TYPE_CHECKING:
    import torch

Tensors = dict[str, Any]

_UNLOADED = ("Missing key", "Could not load state dict", "Warning: Could not load state dict")
"""How lerobot says that weights stayed random; PI0 and its kin only print it."""


@final
class LerobotPolicy(Policy):
    """A LeRobot checkpoint with its saved processors.

    Attributes:
        spec: what the rest of policyscope needs to know.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        facts: DatasetFacts,
        alignment: Alignment,
        config: EvalConfig,
    ) -> None:
        """Load the weights and the processors.

        Raises:
            CheckpointError: lerobot can't open it, or keys of the network lack weights.
            MissingStatsError: the statistics that make its outputs native are missing.
        """
        self._alignment, self._seed = alignment, config.seed
        self._device, self._buffers = pick_device(config.device), Buffers()
        self._autocast, self._copy_stream = config.dtype == "bfloat16", None
        self._config = _policy_config(checkpoint, self._device)
        self._policy = _load(checkpoint, self._config)
        stats = facts_stats(facts, alignment, checkpoint) if config.stats == "dataset" else None
        self._pre, self._post = _processors(checkpoint, self._config, self._device, stats)
        normalization = _normalization(checkpoint, stats, force=config.force)
        self._noise_shape = _noise_shape(checkpoint.type, self._config)
        steps = tuple(int(i) for i in self._config.observation_delta_indices or (0,))
        chunk_size = _declared_horizon(self._config)
        n_action_steps = config.n_action_steps or checkpoint.n_action_steps or chunk_size
        if n_action_steps > chunk_size:
            raise UsageError(
                "--n_action_steps",
                expected=f"at most {chunk_size}, the steps of a predicted chunk",
                found=str(n_action_steps),
                fix=f"--n_action_steps {chunk_size}",
            )
        if hasattr(self._config, "chunk_size"):  # elsewhere it is the length of a prediction
            self._config.n_action_steps = n_action_steps
            self._policy.reset()
        self._method = self._policy.predict_action_chunk
        if config.compile:
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
            draws=_draws(checkpoint.type, self._noise_shape),
            dtype=str(next(self._policy.parameters()).dtype).removeprefix("torch."),
            device=self._device,
        )

    def predict(self, batch: FrameBatch) -> Prediction:
        """See `Policy.predict`."""
        if self.spec.draws == "seeded" and len(batch) > 1:
            single = [self.predict(batch[i : i + 1]) for i in range(len(batch))]
            values = np.concatenate([p.actions.values for p in single])
            return Prediction(
                NativeActions(values, self._alignment.schema.units), sum(p.model_s for p in single)
            )
        with self._calling(batch):
            observation = self._observe(batch)
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

    def _observe(self, batch: FrameBatch, *, all_steps: bool = True) -> Tensors:
        """Preprocessed model inputs; policies with observation queues get them filled."""
        import torch
        from lerobot.policies.utils import populate_queues
        from lerobot.utils.constants import OBS_IMAGES

        self._policy.reset()
        steps = batch.observations if all_steps else batch.observations[-1:]
        queues = getattr(self._policy, "_queues", None) or {}
        stacked: Tensors = {}
        for step in steps:
            raw = {
                key: unit_range(step[source].to(self._device), self._buffers)
                for key, source in self._alignment.feeds.items()
            }
            stacked = dict(self._pre({**raw, "task": list(batch.task)}))
            if OBS_IMAGES in queues and all_steps:
                cameras = [stacked[key] for key in self._config.image_features]
                stacked[OBS_IMAGES] = torch.stack(cameras, dim=-4)
            if all_steps:
                populate_queues(queues, stacked, exclude_keys=[ACTION])
        return {key: value for key, value in stacked.items() if key != ACTION}

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
    def exact(self) -> bool:
        """See `Policy.exact`."""
        return not self._autocast and self._method == self._policy.predict_action_chunk

    def predict_plain(self, batch: FrameBatch) -> Prediction:
        """See `Policy.predict_plain`."""
        road = self._autocast, self._method
        self._autocast, self._method = False, self._policy.predict_action_chunk
        try:
            return self.predict(batch)
        finally:
            self._autocast, self._method = road

    def stage(self, batch: FrameBatch) -> FrameBatch:
        """See `Policy.stage`: copies of page-locked pictures overlap the model's work."""
        if self._device != "cuda":
            return batch
        import torch

        with torch.cuda.stream(self._copying()):
            observations = tuple(
                {key: value.to(self._device, non_blocking=True) for key, value in step.items()}
                for step in batch.observations
            )
        self._copying().synchronize()  # of this thread alone
        return dataclasses.replace(batch, observations=observations)

    def _copying(self) -> Any:
        import torch

        if self._copy_stream is None:
            self._copy_stream = torch.cuda.Stream()
        return self._copy_stream

    def _normalized(self, chunk: torch.Tensor, rows: int) -> NormalizedActions:
        if self.spec.type == "tdmpc" and chunk.ndim == 3:  # which answers [H, B, A]
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


def pick_device(wanted: str) -> str:
    """``auto`` takes cuda, then mps, then cpu.

    Raises:
        UsageError: the wanted device is not there.
    """
    import torch

    have = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if wanted == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if have[name])
    if not have[wanted]:
        raise UsageError(
            f"--device {wanted}",
            expected=f"one of {', '.join(n for n, there in have.items() if there)}",
            found=f"no {wanted} on this machine",
            fix="--device auto",
        )
    return wanted


def facts_stats(
    facts: DatasetFacts, alignment: Alignment, checkpoint: Checkpoint
) -> dict[str, Mapping[str, Any]]:
    """The dataset's statistics under the policy's keys (for ``--stats dataset``).

    Args:
        facts: of the dataset.
        alignment: which dataset key feeds which key of the preprocessor, and which dims meet.
        checkpoint: its preprocessor normalizes after it renames.
    """
    renames, action_dim = checkpoint.renames, checkpoint.action_dim
    renamed = {
        renames.get(key, key): facts.stats[source]
        for key, source in alignment.feeds.items()
        if source in facts.stats
    }
    return {**renamed, ACTION: _action_stats(facts, alignment, action_dim)}


def _action_stats(facts: DatasetFacts, alignment: Alignment, action_dim: int) -> dict[str, Any]:
    """The dataset's statistics of actions, in the order of the policy's dims."""
    table = facts.stats[ACTION]
    met = dict(zip(alignment.policy_dims, alignment.dataset_dims, strict=True))
    if action_dim == facts.actions.dim and all(p == d for p, d in met.items()):
        return dict(table)
    if sorted(met) != list(range(action_dim)):
        raise UsageError(
            "--stats dataset",
            expected=f"a dim of the dataset for each of the policy's {action_dim}",
            found=f"{len(met)} in --action_dims",
            fix="leave --stats dataset out, or name all dims",
        )
    order = [met[p] for p in range(action_dim)]
    flat = {name: np.asarray(values).reshape(-1) for name, values in table.items()}
    return {name: values[order] for name, values in flat.items() if values.size > max(order)}


@contextlib.contextmanager
def _opening(what: str, models: Sequence[str] = ()) -> Iterator[list[str]]:
    """Keep lerobot's prints and logs off the terminal; yield what it said; say what failed."""
    warnings: list[str] = []
    printed = io.StringIO()

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            warnings.append(record.getMessage())

    root, handler = logging.getLogger(), Collect(logging.WARNING)
    others, root.handlers = root.handlers, [handler]
    try:
        with contextlib.redirect_stdout(printed):
            yield warnings
        warnings += printed.getvalue().splitlines()
    except ImportError as error:
        raise CheckpointError(
            what,
            expected="the packages that this policy needs",
            found=first_line(error),
            fix="install the extra that the message names, for example policyscope[diffusion]",
        ) from error
    except CheckpointError:
        raise
    except Exception as error:  # whatever a policy class raises while it is being built
        raise CheckpointError(
            what,
            expected="a checkpoint that lerobot can open",
            found=f"{type(error).__name__}: {first_line(error)}",
            fix="check config.json and the processors against lerobot 0.6, and that every model it "
            f"names{f' ({", ".join(models)})' if models else ''} is in a sub-folder, in the cache, "
            "or within reach",
        ) from error
    finally:
        root.handlers = others


def _is_out_of_memory(error: Exception) -> bool:
    import torch

    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def _policy_config(checkpoint: Checkpoint, device: str) -> Any:
    import lerobot.policies  # noqa: F401  (registers the config classes)
    from lerobot.configs import PreTrainedConfig

    with _opening(f"{checkpoint.path}/config.json"):
        config: Any = PreTrainedConfig.from_pretrained(
            checkpoint.directory, cli_overrides=[f"--device={device}"]
        )
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        folder = checkpoint.subfolder(value) if isinstance(value, str) else None
        if folder is not None:
            setattr(config, field.name, str(folder))
            if hasattr(config, "load_vlm_weights") and not any(folder.glob("*.safetensors")):
                config.load_vlm_weights = False  # the checkpoint's own weights hold them
    return config


def _load(checkpoint: Checkpoint, config: Any) -> Any:
    from lerobot.policies.factory import get_policy_class

    with _opening(f"--policy.path {checkpoint.path}", checkpoint.hub_models) as warnings:
        policy = get_policy_class(checkpoint.type).from_pretrained(
            checkpoint.directory, config=config
        )
    missing = [text for text in warnings if text.startswith(_UNLOADED)]
    if missing:
        raise CheckpointError(
            f"{checkpoint.path}/model.safetensors",
            expected="weights for every part of the network",
            found=missing[0][:300],
            fix="the config.json belongs to another checkpoint: copy both again",
        )
    policy.eval()
    return policy


def _processors(
    checkpoint: Checkpoint, config: Any, device: str, stats: Mapping[str, Any] | None
) -> tuple[Any, Any]:
    """The saved processors, or lerobot's own made anew where they can be repaired."""
    from lerobot.policies.factory import make_pre_post_processors

    with _opening(f"processors of {checkpoint.path}", checkpoint.hub_models):
        from lerobot.configs import PreTrainedConfig

        pair: tuple[Any, Any]
        if checkpoint.recovered or (stats is not None and checkpoint.incomplete):
            have = stats if stats is not None else checkpoint.recovered_stats
            pair = make_pre_post_processors(config, dataset_stats=have)
            for step in pair[0].steps:
                if hasattr(step, "rename_map"):
                    step.rename_map = checkpoint.renames
            return pair
        pair = make_pre_post_processors(
            PreTrainedConfig.from_pretrained(checkpoint.directory),
            pretrained_path=str(checkpoint.directory),
            preprocessor_overrides=_overrides(checkpoint, checkpoint.preprocessor, device, stats),
            postprocessor_overrides=_overrides(checkpoint, checkpoint.postprocessor, "cpu", stats),
        )
    return pair


def _overrides(
    checkpoint: Checkpoint, steps: Any, device: str, stats: Mapping[str, Any] | None
) -> dict[str, dict[str, Any]]:
    overrides: dict[str, dict[str, Any]] = {}
    for step in steps or ():
        changed: dict[str, Any] = {}
        if step.name == "device_processor":
            changed["device"] = device
        if step.name in ("normalizer_processor", "unnormalizer_processor"):
            changed["device"] = device
            if stats is not None:
                changed["stats"] = stats
        folder = checkpoint.subfolder(str(step.config.get("tokenizer_name", "")))
        if folder is not None:
            changed["tokenizer_name"] = str(folder)
        if changed:
            overrides[step.name] = changed
    return overrides


def _normalization(
    checkpoint: Checkpoint, stats: Mapping[str, Any] | None, *, force: bool
) -> Normalization:
    step = checkpoint.unnormalizer
    mode = checkpoint.action_mode
    kept = "weights" if checkpoint.recovered else "checkpoint"
    source = kept if stats is None else "dataset"
    have = stats if stats is not None else (step.stats if step else {})
    if force and (step is None or (stats is None and ACTION not in have)):
        return Normalization(mode, "forced-without-statistics", "none")
    return Normalization(mode, stats_id(have, mode), "none" if mode == "IDENTITY" else source)


def _noise_shape(policy_type: str, config: Any) -> tuple[int, ...] | None:
    """Shape of the initial noise without the batch axis, for policies that take it as input."""
    if policy_type in ("smolvla", "pi0", "pi05"):
        return (int(config.chunk_size), int(config.max_action_dim))
    if policy_type == "diffusion" and config.noise_scheduler_type == "DDIM":
        return (int(config.horizon), int(config.action_feature.shape[0]))
    return None  # DDPM draws noise at every step, too: seeded


def _draws(policy_type: str, noise_shape: tuple[int, ...] | None) -> Draws:
    if noise_shape is not None:
        return "noise"
    return "none" if policy_type == "act" else "seeded"


def _declared_horizon(config: Any) -> int:
    """Steps of a predicted chunk, as lerobot's policies return them."""
    for name in ("chunk_size", "action_chunk_size"):
        if isinstance(getattr(config, name, None), int):
            return int(getattr(config, name))
    for name in ("n_action_steps", "horizon"):  # diffusion returns its executed steps only
        if isinstance(getattr(config, name, None), int):
            return int(getattr(config, name))
    return 1
