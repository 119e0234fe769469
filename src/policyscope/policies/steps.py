"""The saved steps of a checkpoint's processors: which are taken, and what they may say.

lerobot imports what a step names under ``class`` and calls it before it looks whether that is a
step at all. Here a step is taken by its registered name alone, from a list of those that do
nothing but compute; what an installed plugin registers is its user's own choice.
"""

from __future__ import annotations

import functools
import importlib.metadata
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from policyscope.errors import CheckpointError, first_line
from policyscope.policies.declared import (
    Normalizing,
    Pipeline,
    Renaming,
    Step,
    Tokenizing,
    require_sane,
    typed,
)
from policyscope.policies.folder import Folder

NORMALIZER, UNNORMALIZER = "normalizer_processor", "unnormalizer_processor"
TOKENIZER, RENAMER = "tokenizer_processor", "rename_observations_processor"
PLUGINS = ("lerobot_policy_", "lerobot_env_")
"""How the packages are called that lerobot's own registry function imports."""

_COMPUTE = re.compile(
    "absolute_actions_processor|device_processor|evo1_(pad_state|pad_action|action)_processor"
    "|eo1_conversation_template_processor|fastwam_action_toggle_processor"
    "|image_crop_resize_processor|isaaclab_arena_processor|libero_processor"
    "|molmoact2_(masked_(un)?normalizer|clamp_(normalized|action)|(state|action)_frame_transform)"
    "|normalizer_processor|numpy2torch_action_processor|observation_processor"
    "|pi05_prepare_state_tokenizer_processor_step|pi0_new_line_processor"
    "|relative_actions_processor|rename_observations_processor|smolvla_new_line_processor"
    "|to_batch_processor(_(action|observation|complementary_data))?|tokenizer_processor"
    "|torch2numpy_action_processor|unnormalizer_processor"
    "|vla_jepa_(clip_actions|pre_snap_gripper|binarize_gripper)"
    "|xvla_(add_domain_id|image_scale|image_to_float|imagenet_normalize|rotation_6d_to_axis_angle)"
)
"""lerobot's registered steps that compute with what they are given, read one by one (0.6.1)."""
_MOST_STATE = 256 * 2**20

Stats = dict[str, dict[str, NDArray[np.float32]]]


@final
@dataclass(frozen=True)
class ProcessorStep:
    """One step of a saved processor pipeline.

    Attributes:
        name: under which its class is registered.
        config: its saved configuration.
        stats: feature key → statistic → values, for (un)normalizers; empty for other steps.
        norm_map: feature type → normalization mode, for (un)normalizers.
        state: the file that it loads, or None.
    """

    name: str
    config: dict[str, Any]
    stats: Stats
    norm_map: Mapping[str, str] = field(default_factory=dict)
    state: Path | None = None

    def mode(self, feature_type: str) -> str:
        """The mode of a feature type; lerobot takes IDENTITY for one that the map leaves out."""
        return self.norm_map.get(feature_type, "IDENTITY")

    def reaches(self, key: str) -> bool:
        """Whether a normalizer changes an observation; it passes over what it does not list."""
        lists = (self.config.get("features"), self.config.get("normalize_observation_keys"))
        return all(listed is None or key in listed for listed in lists)


def read_pipeline(folder: Folder, filename: str) -> tuple[ProcessorStep, ...] | None:
    """The steps of a saved processor, or None where the file is missing.

    Raises:
        CheckpointError: a step that names code, a file outside the folder, or nonsense.
    """
    content = folder.table(filename)
    if content is None:
        return None
    what = f"{folder.path}/{filename}"
    steps = typed(Pipeline, content, what).steps
    return tuple(_step(folder, raw, f"{what}, step {i + 1}") for i, raw in enumerate(steps))


def _step(folder: Folder, raw: dict[str, Any], what: str) -> ProcessorStep:
    name = raw.get("registry_name")
    if not isinstance(name, str) or not (_COMPUTE.fullmatch(name) or plugins()):
        imports = "registry_name" not in raw
        raise CheckpointError(
            f"--policy.path {folder.path}",
            expected="processor steps that lerobot registers and that run no foreign code",
            found=f"a step that {'imports' if imports else 'runs the code named by'} "
            f"{raw.get('class') if imports else name!r}",
            fix="policyscope runs no code that a checkpoint names: use a registered step",
        )
    step = typed(Step, raw, what)
    require_sane(step.config, f"{what} ({name})", n_tensors=2**31, n_parameters=2**31)
    folder.require_plain(what, step.config)
    norm_map: Mapping[str, str] = {}
    if name.endswith(("normalizer_processor", "_normalizer", "_unnormalizer")):
        norm_map = typed(Normalizing, step.config, f"{what} ({name})").modes
    elif name == RENAMER:
        typed(Renaming, step.config, f"{what} ({name})")
    elif name == TOKENIZER:
        typed(Tokenizing, step.config, f"{what} ({name})")
    state = folder.file(step.state_file) if step.state_file is not None else None
    stats: Stats = {}
    if state is not None:
        assert step.state_file is not None
        folder.require_small(step.state_file, _MOST_STATE)
        stats = _stats(state, f"{folder.path}/{step.state_file}") if norm_map else {}
    elif step.state_file is not None and not norm_map:  # statistics are reported by the preflight
        raise CheckpointError(
            f"{what} ({name})",
            expected=f"its file {step.state_file}",
            found="no such file",
            fix="copy the checkpoint again",
        )
    return ProcessorStep(step.registry_name, dict(step.config), stats, norm_map, state)


def _stats(file: Path, what: str) -> Stats:
    stats: Stats = {}
    try:
        with safe_open(file, framework="numpy") as tensors:
            for key in tensors.keys():  # noqa: SIM118
                feature, _, statistic = key.rpartition(".")
                stats.setdefault(feature, {})[statistic] = tensors.get_tensor(key)
    except (SafetensorError, OSError, TypeError, ValueError) as error:
        raise broken(file, what, error) from error
    return stats


def broken(file: Path, what: str, error: Exception) -> CheckpointError:
    """The error for a safetensors file that does not parse."""
    return CheckpointError(
        what,
        expected="a whole safetensors file",
        found=f"{file.stat().st_size} bytes that don't parse ({first_line(error)})",
        fix="copy the checkpoint again",
    )


@functools.cache
def plugins() -> tuple[str, ...]:
    """Installed packages that register policies or environments with lerobot."""
    names = (dist.metadata["Name"] or "" for dist in importlib.metadata.distributions())
    return tuple(sorted(name for name in names if name.startswith(PLUGINS)))
