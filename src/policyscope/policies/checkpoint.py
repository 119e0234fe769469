"""What a checkpoint says about itself, read from its JSON files and safetensors headers.

No weights are loaded and neither torch nor lerobot is imported, so preflight can refuse a run
before anything slow begins.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from policyscope.config import PolicyConfig
from policyscope.errors import CheckpointError, first_line
from policyscope.policies.hub import checkpoint_dir

PREPROCESSOR = "policy_preprocessor.json"
POSTPROCESSOR = "policy_postprocessor.json"
WEIGHTS = "model.safetensors"

_READ_LANGUAGE = ("smolvla", "pi0", "pi05", "multi_task_dit", "xvla")
_RUN_CODE = ("gaussian_actor", "groot", "pi0_fast", "wall_x")
"""Policy types that lerobot opens with ``trust_remote_code``, whatever their config names."""
_STEP_RUNS_CODE = re.compile(
    r"action_tokenizer_processor|groot_.*|robometer_encoder|topreward_encoder"
    r"|lerobot\..*(ActionTokenizer|[Gg]root|rewards).*"
)
"""Processor steps that do the same, by registry name or by class."""
_BUFFER = re.compile(
    r"(?:model\.)?(normalize_inputs|unnormalize_outputs)\.(?:(.+)_)?buffer_(.+)\.(\w+)"
)
"""A statistic in the weights of lerobot before 0.4: which layer, dataset, feature, statistic."""

Stats = dict[str, dict[str, NDArray[np.float32]]]


@final
@dataclass(frozen=True)
class ProcessorStep:
    """One step of a saved processor pipeline.

    Attributes:
        name: its registry name, or the dotted path of its class.
        config: its saved configuration.
        stats: feature key → statistic → values, for (un)normalizers; empty for other steps.
    """

    name: str
    config: dict[str, Any]
    stats: Stats


@final
@dataclass(frozen=True)
class Checkpoint:
    """A LeRobot pretrained directory, before its weights are loaded.

    Attributes:
        path: as the user gave it.
        directory: where it lies on disk.
        type: lerobot's policy type, for example ``smolvla``.
        config: ``config.json``.
        preprocessor: steps of the saved preprocessor; None where the file is missing.
        postprocessor: steps of the saved postprocessor; None where the file is missing.
        sha256: of the weights file.
        processors_sha256: of the config, the processors and their statistics.
        n_parameters: numbers stored in the weights file.
        training: ``train_config.json``, or an empty dict.
        recovered: whether both processors stand for statistics found in the weights, where lerobot
            before 0.4 kept them.
    """

    path: str
    directory: Path
    type: str
    config: dict[str, Any]
    preprocessor: tuple[ProcessorStep, ...] | None
    postprocessor: tuple[ProcessorStep, ...] | None
    sha256: str
    processors_sha256: str
    n_parameters: int
    training: dict[str, Any]
    recovered: bool = False

    @property
    def action_dim(self) -> int:
        """Declared action dims (without padding)."""
        return int(self.config["output_features"]["action"]["shape"][0])

    @property
    def state_dim(self) -> int | None:
        """Declared state dims, or None for a policy without state."""
        feature = self.config["input_features"].get("observation.state")
        return None if feature is None else int(feature["shape"][0])

    @property
    def cameras(self) -> dict[str, tuple[int, ...]]:
        """Policy camera key → (C, H, W); empty cameras, which need no source, are left out."""
        return {
            key: tuple(feature["shape"])
            for key, feature in self.config["input_features"].items()
            if feature["type"] == "VISUAL" and "empty_camera" not in key
        }

    @property
    def action_mode(self) -> str:
        """The normalization mode of actions that the checkpoint declares."""
        return str(self.config.get("normalization_mapping", {}).get("ACTION", "IDENTITY"))

    @property
    def unnormalizer(self) -> ProcessorStep | None:
        """The step that brings actions back to native units."""
        return find_step(self.postprocessor, "unnormalizer_processor")

    @property
    def normalizer(self) -> ProcessorStep | None:
        """The step that brings observations to the network's scale."""
        return find_step(self.preprocessor, "normalizer_processor")

    @property
    def incomplete(self) -> bool:
        """Whether processors are missing that `--stats dataset` makes anew."""
        if self.preprocessor is None or self.postprocessor is None:
            return True
        return self.unnormalizer is None and self.action_mode != "IDENTITY"

    @property
    def recovered_stats(self) -> Stats:
        """The statistics of a checkpoint that keeps them in its weights."""
        steps = (self.normalizer, self.unnormalizer)
        return {key: table for step in steps if step for key, table in step.stats.items()}

    @property
    def renames(self) -> dict[str, str]:
        """The renaming of observations that the checkpoint itself carries."""
        step = find_step(self.preprocessor, "rename_observations_processor")
        return dict(step.config.get("rename_map", {})) if step else {}

    @property
    def relative(self) -> bool:
        """Whether the network predicts displacements from the state, made absolute afterwards."""
        step = find_step(self.preprocessor, "relative_actions_processor")
        return bool(
            self.config.get("use_relative_actions") or (step and step.config.get("enabled"))
        )

    @property
    def needs_language(self) -> bool:
        """Whether the policy reads the task text."""
        found = find_step(self.preprocessor, "tokenizer_processor") is not None
        return found or self.type in _READ_LANGUAGE

    @property
    def n_action_steps(self) -> int | None:
        """Steps of each chunk that the checkpoint says a robot runs."""
        value = self.config.get("n_action_steps")
        return None if value is None else int(value)

    @property
    def hub_models(self) -> tuple[str, ...]:
        """Models and tokenizers that it names as on the hub and doesn't bring along."""
        steps = (*(self.preprocessor or ()), *(self.postprocessor or ()))
        named = [
            pair for table in (self.config, *(s.config for s in steps)) for pair in table.items()
        ]
        return tuple(
            dict.fromkeys(
                value
                for key, value in named
                if key.endswith("_name")
                and re.fullmatch(r"[\w.-]+/[\w.-]+", str(value))
                and self.subfolder(value) is None
            )
        )

    def subfolder(self, name: str) -> Path | None:
        """A model or tokenizer folder that the checkpoint brings along, wherever it lies now."""
        for candidate in (self.directory / name, self.directory / Path(name).name):
            if name and candidate.is_dir() and candidate != self.directory:
                return candidate
        return None


def find_step(steps: tuple[ProcessorStep, ...] | None, name: str) -> ProcessorStep | None:
    """The first step of that name, or None."""
    return next((step for step in steps or () if step.name == name), None)


def read_checkpoint(policy: PolicyConfig) -> Checkpoint:
    """Read everything but the weights.

    Raises:
        CheckpointError: not a checkpoint, or one of its files is missing, truncated or unsafe.
    """
    path = policy.path or ""
    directory = checkpoint_dir(path, policy.revision)
    config = _read_json(directory / "config.json", path)
    if config is None or "type" not in config:
        raise CheckpointError(
            f"--policy.path {path}",
            expected="a LeRobot checkpoint with config.json",
            found="a config.json without a policy type" if config else "no config.json",
            fix=_nested_hint(directory),
        )
    features = (config.get("input_features"), config.get("output_features"))
    if not all(isinstance(f, dict) for f in features) or "action" not in config["output_features"]:
        raise CheckpointError(
            f"{path}/config.json",
            expected="input_features and output_features with an action",
            found="none",
            fix="save the policy again with lerobot's save_pretrained",
        )
    if config["type"] in _RUN_CODE:
        raise CheckpointError(
            f"--policy.path {path}",
            expected="a policy type that opens without running code from a checkpoint or the hub",
            found=f"{config['type']}, for which lerobot trusts such code",
            fix="evaluate another type: policyscope never runs code that a checkpoint names",
        )
    sha256, n_parameters = _weights(directory / WEIGHTS, path)
    preprocessor = _processor(directory, PREPROCESSOR, path)
    postprocessor = _processor(directory, POSTPROCESSOR, path)
    recovered = None
    if preprocessor is None and postprocessor is None:
        recovered = _recovered(directory / WEIGHTS, config)
    return Checkpoint(
        path=path,
        directory=directory,
        type=str(config["type"]),
        config=config,
        preprocessor=recovered[:1] if recovered else preprocessor,
        postprocessor=recovered[1:] if recovered else postprocessor,
        sha256=sha256,
        processors_sha256=_digest(directory),
        n_parameters=n_parameters,
        training=_read_json(directory / "train_config.json", path) or {},
        recovered=recovered is not None,
    )


def _nested_hint(directory: Path) -> str:
    nested = sorted(p.parent for p in directory.glob("**/" + WEIGHTS))
    if nested:
        return f"--policy.path {nested[-1]}"
    return "give the directory that holds config.json and model.safetensors"


def _read_json(file: Path, path: str) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(
            f"{path}/{file.name}",
            expected="JSON",
            found=first_line(error),
            fix="copy the checkpoint again",
        ) from error
    return content if isinstance(content, dict) else None


def _weights(file: Path, path: str) -> tuple[str, int]:
    if not file.is_file():
        raise CheckpointError(
            f"--policy.path {path}",
            expected=WEIGHTS,
            found="pickled weights, which are never loaded" if _pickled(file) else "no such file",
            fix="copy the checkpoint again, or save it with lerobot's save_pretrained",
        )
    try:
        with safe_open(file, framework="numpy") as weights:
            n_parameters = sum(
                math.prod(weights.get_slice(key).get_shape())
                for key in weights.keys()  # noqa: SIM118
            )
    except (SafetensorError, OSError) as error:
        raise _broken(file, path, error) from error
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest(), n_parameters


def _recovered(file: Path, config: dict[str, Any]) -> tuple[ProcessorStep, ...] | None:
    """The two steps that statistics in the weights amount to, or None where it has none.

    Buffers that were never filled hold infinity and don't count.
    """
    features = {**config["input_features"], **config["output_features"]}
    names = {key.replace(".", "_"): key for key in features}
    found: dict[str, Stats] = {"normalize_inputs": {}, "unnormalize_outputs": {}}
    with safe_open(file, framework="numpy") as weights:
        for key in weights.keys():  # noqa: SIM118
            match = _BUFFER.fullmatch(key)
            if match is None:
                continue
            layer, dataset, feature, statistic = match.groups()
            values = weights.get_tensor(key)
            name = names.get(str(feature), str(feature))
            if np.isfinite(values).all():
                stored = name if dataset is None else f"{dataset}.buffer.{name}"
                found[str(layer)].setdefault(stored, {})[str(statistic)] = values
    if not any(found.values()):
        return None
    modes = {"norm_map": config.get("normalization_mapping", {})}
    return (
        ProcessorStep("normalizer_processor", modes, found["normalize_inputs"]),
        ProcessorStep("unnormalizer_processor", modes, found["unnormalize_outputs"]),
    )


def _digest(directory: Path) -> str:
    digest = hashlib.sha256()
    for file in [directory / "config.json", *sorted(directory.glob("policy_p*processor*"))]:
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def _pickled(file: Path) -> bool:
    return any(file.parent.glob("*.bin")) or any(file.parent.glob("*.pt"))


def _broken(file: Path, path: str, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{path}/{file.name}",
        expected="a whole safetensors file",
        found=f"{file.stat().st_size} bytes that don't parse ({first_line(error)})",
        fix="copy the checkpoint again",
    )


def _processor(directory: Path, filename: str, path: str) -> tuple[ProcessorStep, ...] | None:
    content = _read_json(directory / filename, path)
    if content is None:
        return None
    return tuple(_step(directory, raw, path) for raw in content.get("steps", []))


def _step(directory: Path, raw: dict[str, Any], path: str) -> ProcessorStep:
    name = raw.get("registry_name") or raw.get("class") or "?"
    imports = "registry_name" not in raw and not str(name).startswith("lerobot.")
    if imports or _STEP_RUNS_CODE.fullmatch(str(name)):
        raise CheckpointError(
            f"--policy.path {path}",
            expected="processor steps that lerobot registers and that run no foreign code",
            found=f"a step that {'imports' if imports else 'runs the code named by'} {name!r}",
            fix="policyscope runs no code that a checkpoint names: use a registered step",
        )
    stats: Stats = {}
    if "normalizer_processor" in str(name) and raw.get("state_file"):
        file = directory / str(raw["state_file"])
        if file.is_file():
            try:
                with safe_open(file, framework="numpy") as tensors:
                    for key in tensors.keys():  # noqa: SIM118
                        feature, statistic = key.rsplit(".", 1)
                        stats.setdefault(feature, {})[statistic] = tensors.get_tensor(key)
            except (SafetensorError, OSError) as error:
                raise _broken(file, path, error) from error
    return ProcessorStep(str(name), dict(raw.get("config", {})), stats)
