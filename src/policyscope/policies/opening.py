"""Opening what lerobot trained: configuration, weights, processors and statistics.

lerobot passes over much in silence while it does this; here that is said.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from policyscope.actions.robots import Robot
from policyscope.actions.spaces import stats_id
from policyscope.data.facts import ACTION
from policyscope.errors import CheckpointError, UsageError, first_line
from policyscope.policies.alignment import Alignment
from policyscope.policies.base import Normalization
from policyscope.policies.checkpoint import Checkpoint

_UNLOADED = ("Missing key", "Could not load state dict", "Warning: Could not load state dict")
"""How lerobot says that weights stayed random; PI0 and its kin only print it."""


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


def robot_stats(
    robot: Robot, alignment: Alignment, checkpoint: Checkpoint
) -> dict[str, Mapping[str, Any]]:
    """The dataset's statistics under the policy's keys (for ``--stats dataset``).

    Args:
        robot: whose statistics they are.
        alignment: which dataset key feeds which key of the preprocessor, and which dims meet.
        checkpoint: its preprocessor normalizes after it renames.
    """
    renames, action_dim = checkpoint.renames, checkpoint.action_dim
    renamed = {
        renames.get(key, key): robot.stats[source]
        for key, source in alignment.feeds.items()
        if source in robot.stats
    }
    return {**renamed, ACTION: _action_stats(robot, alignment, action_dim)}


def _action_stats(robot: Robot, alignment: Alignment, action_dim: int) -> dict[str, Any]:
    """The dataset's statistics of actions, in the order of the policy's dims."""
    table = robot.stats[ACTION]
    met = dict(zip(alignment.policy_dims, alignment.dataset_dims, strict=True))
    if action_dim == robot.actions.dim and all(p == d for p, d in met.items()):
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


def policy_config(checkpoint: Checkpoint, device: str) -> Any:
    """lerobot's configuration; models that lie in a sub-folder of the checkpoint are found there.

    Raises:
        CheckpointError: lerobot can't read it.
    """
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


def load_policy(checkpoint: Checkpoint, config: Any) -> Any:
    """lerobot's policy with all its weights, for inference.

    Raises:
        CheckpointError: lerobot can't open it, or parts of the network have no weights.
    """
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


def load_processors(
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


def normalization_of(
    checkpoint: Checkpoint, stats: Mapping[str, Any] | None, *, force: bool
) -> Normalization:
    """How the outputs become native, and by whose statistics."""
    step = checkpoint.unnormalizer
    mode = checkpoint.action_mode
    kept = "weights" if checkpoint.recovered else "checkpoint"
    source = kept if stats is None else "dataset"
    have = stats if stats is not None else (step.stats if step else {})
    if force and (step is None or (stats is None and ACTION not in have)):
        return Normalization(mode, "forced-without-statistics", "none")
    return Normalization(mode, stats_id(have, mode), "none" if mode == "IDENTITY" else source)
