"""Opening what lerobot trained: configuration, weights, processors and statistics.

lerobot passes over much in silence while it does this; here that is said. It is handed what the
checkpoint's files said when they were checked, so that it opens none of them but the weights.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from policyscope.actions.robots import Robot
from policyscope.actions.spaces import stats_id
from policyscope.data.facts import ACTION
from policyscope.errors import CheckpointError, UsageError, first_line
from policyscope.policies.adapter import merged
from policyscope.policies.alignment import Alignment
from policyscope.policies.base import Normalization, StatsSource
from policyscope.policies.checkpoint import WEIGHTS, Checkpoint
from policyscope.policies.guard import bounded_memory, no_foreign_code
from policyscope.policies.steps import NORMALIZER, TOKENIZER, UNNORMALIZER, ProcessorStep, plugins

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
        with contextlib.redirect_stdout(printed), no_foreign_code():
            yield warnings
        warnings += printed.getvalue().splitlines()
    except ImportError as error:
        raise CheckpointError(
            what,
            expected="the packages that this policy needs",
            found=first_line(error),
            fix="install the extra that the message names, for example policyscope[diffusion]",
        ) from error
    except (CheckpointError, UsageError):
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

    What the checkpoint's own weights hold is not fetched, compilation is ``--compile``'s to say,
    and real-time chunking, which needs a queue that is still being run, is off.

    Raises:
        CheckpointError: lerobot can't read it.
    """
    import draccus
    import lerobot.policies  # noqa: F401  (registers the config classes)
    from lerobot.configs import PreTrainedConfig

    content = {key: value for key, value in checkpoint.config.items() if key != "type"}
    with _opening(f"{checkpoint.path}/config.json"):
        register_plugins()
        known = PreTrainedConfig.get_known_choices()
        if checkpoint.type not in known:
            raise CheckpointError(
                f"{checkpoint.path}/config.json",
                expected=f"a policy type of lerobot or of an installed plugin ({', '.join(known)})",
                found=checkpoint.type,
                fix="install the package that registers it (lerobot_policy_…)",
            )
        config: Any = draccus.decode(known[checkpoint.type], {**content, "device": device})
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        folder = checkpoint.models.get(value) if isinstance(value, str) else None
        if folder is not None:
            setattr(config, field.name, str(folder))
            if hasattr(config, "load_vlm_weights") and not any(folder.glob("*.safetensors")):
                config.load_vlm_weights = False  # the checkpoint's own weights hold them
    for name, off in _OFF.items():
        if hasattr(config, name):
            setattr(config, name, off)
    return config


_OFF = {
    "pretrained_path": None,
    "pretrained_backbone_weights": None,
    "compile_model": False,
    "rtc_config": None,
}
"""What a configuration asks for that an evaluation of its own weights must not do."""


def register_plugins() -> None:
    """Let installed packages register their policies, by lerobot's own function."""
    if plugins():
        from lerobot.utils.import_utils import register_third_party_plugins

        register_third_party_plugins()


def load_policy(checkpoint: Checkpoint, config: Any) -> Any:
    """lerobot's policy with all its weights, for inference.

    Raises:
        CheckpointError: lerobot can't open it, or parts of the network have no weights.
    """
    from lerobot.policies.factory import get_policy_class

    size = sum(file.stat().st_size for file in checkpoint.weights.files)
    size += checkpoint.adapter.file.stat().st_size if checkpoint.adapter else 0
    with (
        _opening(f"--policy.path {checkpoint.path}", checkpoint.hub_models) as warnings,
        bounded_memory(size, roomy=config.device != "cpu"),
        _single_file(checkpoint) as directory,
    ):
        policy = get_policy_class(checkpoint.type).from_pretrained(directory, config=config)
        if checkpoint.adapter is not None:
            policy = merged(policy, checkpoint.adapter)
    missing = [text for text in warnings if text.startswith(_UNLOADED)]
    if missing:
        raise CheckpointError(
            f"{checkpoint.path}/{WEIGHTS}",
            expected="weights for every part of the network",
            found=missing[0][:300],
            fix="the config.json belongs to another checkpoint: copy both again",
        )
    policy.eval()
    return policy


@contextlib.contextmanager
def _single_file(checkpoint: Checkpoint) -> Iterator[Path]:
    """A folder with all weights in one file, which is what lerobot opens."""
    files = checkpoint.weights.files
    if len(files) == 1 and files[0].name == WEIGHTS:
        yield files[0].parent
        return
    from safetensors.torch import load_file, save_file

    with tempfile.TemporaryDirectory(prefix="policyscope-") as where:
        whole = {name: values for file in files for name, values in load_file(file).items()}
        save_file(whole, Path(where) / WEIGHTS)
        yield Path(where)


def load_processors(
    checkpoint: Checkpoint, config: Any, device: str, stats: Mapping[str, Any] | None
) -> tuple[Any, Any]:
    """The saved processors, or lerobot's own made anew where they can be repaired."""
    from lerobot.policies.factory import make_pre_post_processors

    with _opening(f"processors of {checkpoint.path}", checkpoint.hub_models):
        if checkpoint.recovered or (stats is not None and checkpoint.incomplete):
            have = stats if stats is not None else checkpoint.recovered_stats
            pair: tuple[Any, Any] = make_pre_post_processors(config, dataset_stats=have)
            for step in pair[0].steps:
                if hasattr(step, "rename_map"):
                    step.rename_map = checkpoint.renames
            return pair
        pair = _saved(checkpoint, device, stats)
        if checkpoint.type == "evo1":
            from lerobot.policies.evo1.processor_evo1 import reconcile_evo1_processors

            pair = reconcile_evo1_processors(config, *pair)
    for step in pair[0].steps:
        if hasattr(step, "_tokenize_text"):
            step._tokenize_text = _each_text_once(step._tokenize_text)
    return pair


def _each_text_once(tokenize: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Rows of a batch mostly share their text: it is made tokens once.

    A row is padded to the longest text of the batch, which is among those that differ.
    """

    def once(texts: str | Sequence[str]) -> Any:
        several = [] if isinstance(texts, str) else list(dict.fromkeys(texts))
        if not several or len(several) == len(texts):
            return tokenize(texts)
        rows = [several.index(text) for text in texts]
        return {name: values[rows] for name, values in tokenize(several).items()}

    return once


def _saved(checkpoint: Checkpoint, device: str, stats: Mapping[str, Any] | None) -> tuple[Any, Any]:
    """The pipelines of the steps that were read, as `make_pre_post_processors` builds them."""
    from lerobot.policies.factory import _reconnect_relative_absolute_steps
    from lerobot.processor import (
        PolicyProcessorPipeline,
        batch_to_transition,
        policy_action_to_transition,
        transition_to_batch,
        transition_to_policy_action,
    )

    def pipeline(steps: Sequence[ProcessorStep], where: str, **converters: Any) -> Any:
        content = {"steps": [_entry(checkpoint, s, i, where, stats) for i, s in enumerate(steps)]}
        return PolicyProcessorPipeline.from_config(content, state_dict=_states(steps), **converters)

    pre = pipeline(
        checkpoint.preprocessor or (),
        device,
        to_transition=batch_to_transition,
        to_output=transition_to_batch,
    )
    post = pipeline(
        checkpoint.postprocessor or (),
        "cpu",
        to_transition=policy_action_to_transition,
        to_output=transition_to_policy_action,
    )
    _reconnect_relative_absolute_steps(pre, post)
    return pre, post


def _entry(
    checkpoint: Checkpoint,
    step: ProcessorStep,
    index: int,
    device: str,
    stats: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """A step as lerobot's own file would have it, for this device and with these statistics."""
    from lerobot.processor import ProcessorStep as Base
    from lerobot.processor.pipeline import ProcessorStepRegistry

    registered = ProcessorStepRegistry.get(step.name)
    if not (isinstance(registered, type) and issubclass(registered, Base)):
        raise CheckpointError(
            f"processors of {checkpoint.path}",
            expected="steps that are lerobot's processor steps",
            found=f"{step.name}, which is none",
            fix="remove the plugin that registers it",
        )
    changed: dict[str, Any] = {}
    if step.name == "device_processor":
        changed["device"] = device
    if step.name in (NORMALIZER, UNNORMALIZER):
        changed["device"] = device
        if stats is not None:
            changed["stats"] = stats
    if step.name == TOKENIZER:
        folder = checkpoint.models.get(str(step.config.get("tokenizer_name")))
        if folder is not None:
            changed["tokenizer_name"] = str(folder)
    entry = {"registry_name": step.name, "config": {**step.config, **changed}}
    return entry if step.state is None else {**entry, "state_file": f"{index}.safetensors"}


def _states(steps: Sequence[ProcessorStep]) -> dict[str, dict[str, Any]]:
    from safetensors.torch import load_file

    return {str(i): load_file(step.state) for i, step in enumerate(steps) if step.state is not None}


def normalization_of(
    checkpoint: Checkpoint, stats: Mapping[str, Any] | None, *, force: bool
) -> Normalization:
    """How the outputs become native, and by whose statistics."""
    step = checkpoint.unnormalizer
    remade = stats is not None and checkpoint.incomplete
    mode = checkpoint.declared_modes.get("ACTION", "IDENTITY")
    mode = mode if remade else checkpoint.action_mode
    kept: StatsSource = "weights" if checkpoint.recovered else "checkpoint"
    source: StatsSource = kept if stats is None else "dataset"
    have = stats if stats is not None else (step.stats if step else {})
    if force and (step is None or (stats is None and ACTION not in have)):
        return Normalization(mode, "forced-without-statistics", "none")
    return Normalization(mode, stats_id(have, mode), "none" if mode == "IDENTITY" else source)
