"""What a checkpoint says about itself, known before any of its weights are loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, final

from policyscope.policies.adapter import Adapter
from policyscope.policies.declared import Settings
from policyscope.policies.folder import Folder
from policyscope.policies.kinds import Kind, kind_of
from policyscope.policies.steps import (
    NORMALIZER,
    RENAMER,
    TOKENIZER,
    UNNORMALIZER,
    ProcessorStep,
    Stats,
)
from policyscope.policies.training import Training

PREPROCESSOR = "policy_preprocessor.json"
POSTPROCESSOR = "policy_postprocessor.json"
WEIGHTS = "model.safetensors"


@final
@dataclass(frozen=True)
class Weights:
    """The weights of a checkpoint, by their headers.

    Attributes:
        files: one, or the shards that an index names.
        sha256: of the file; of the shards' digests, in order, where there are several.
        n_parameters: numbers stored.
        names: of the tensors.
    """

    files: tuple[Path, ...]
    sha256: str
    n_parameters: int
    names: frozenset[str]

    def holds(self, prefix: str) -> bool:
        """Whether any tensor's name begins so."""
        return any(name.startswith(prefix) for name in self.names)


@final
@dataclass(frozen=True)
class Checkpoint:
    """A LeRobot pretrained directory, before its weights are loaded.

    Attributes:
        path: as the user gave it.
        directory: where it lies on disk.
        config: ``config.json``, as lerobot's class will read it.
        settings: the same, typed.
        preprocessor: steps of the saved preprocessor; None where the file is missing.
        postprocessor: steps of the saved postprocessor; None where the file is missing.
        weights: by their headers.
        processors_sha256: of the config, the processors and their statistics.
        training: what ``train_config.json`` says, as far as it can be understood.
        recovered: whether both processors stand for statistics found in the weights, where lerobot
            before 0.4 kept them.
        models: name of a model or tokenizer → the sub-folder that it lies in, or None where it is
            the hub's.
        adapter: what is merged into the weights, which are those of its base then; or None.
    """

    path: str
    directory: Path
    config: dict[str, Any]
    settings: Settings
    preprocessor: tuple[ProcessorStep, ...] | None
    postprocessor: tuple[ProcessorStep, ...] | None
    weights: Weights
    processors_sha256: str
    training: Training
    recovered: bool = False
    models: Mapping[str, Path | None] = field(default_factory=dict)
    adapter: Adapter | None = None

    @property
    def type(self) -> str:
        """Lerobot's policy type, for example ``smolvla``."""
        return self.settings.type

    @cached_property
    def kind(self) -> Kind:
        """What is known about its type."""
        return kind_of(self.type)

    @property
    def sha256(self) -> str:
        """Of the weights."""
        return self.weights.sha256

    @property
    def n_parameters(self) -> int:
        """Numbers stored in the weights."""
        return self.weights.n_parameters

    @property
    def action_dim(self) -> int:
        """Declared action dims (without padding)."""
        return self.settings.output_features["action"].shape[0]

    @property
    def state_dim(self) -> int | None:
        """Declared state dims, or None for a policy without state."""
        feature = self.settings.input_features.get("observation.state")
        return None if feature is None else feature.shape[0]

    @property
    def inputs(self) -> dict[str, str]:
        """Key of each input → its feature type."""
        return {key: feature.type for key, feature in self.settings.input_features.items()}

    @property
    def cameras(self) -> dict[str, tuple[int, ...]]:
        """Policy camera key → (C, H, W); empty cameras, which need no source, are left out."""
        return {
            key: feature.shape
            for key, feature in self.settings.input_features.items()
            if feature.type == "VISUAL" and "empty_camera" not in key
        }

    @property
    def declared_modes(self) -> Mapping[str, str]:
        """Feature type → normalization mode of ``config.json``, or of lerobot's class."""
        return self.settings.modes if self.settings.names_modes else self.kind.modes

    def mode_of(self, feature_type: str) -> str:
        """The mode in which the network knows a feature: its saved steps' own, which lerobot obeys.

        Args:
            feature_type: ``ACTION``, ``STATE`` or ``VISUAL``.
        """
        step = self.unnormalizer if feature_type == "ACTION" else self.normalizer
        step = step or self.normalizer
        if step is not None:
            return step.mode(feature_type)
        return self.declared_modes.get(feature_type, "IDENTITY")

    @property
    def action_mode(self) -> str:
        """The normalization mode of actions."""
        return self.mode_of("ACTION")

    @property
    def unnormalizer(self) -> ProcessorStep | None:
        """The step that brings actions back to native units."""
        return find_step(self.postprocessor, UNNORMALIZER)

    @property
    def normalizer(self) -> ProcessorStep | None:
        """The step that brings observations to the network's scale."""
        return find_step(self.preprocessor, NORMALIZER)

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
        step = find_step(self.preprocessor, RENAMER)
        return dict(step.config.get("rename_map", {})) if step else {}

    @property
    def relative(self) -> bool:
        """Whether the network predicts displacements from the state, made absolute afterwards."""
        step = find_step(self.preprocessor, "relative_actions_processor")
        return self.settings.use_relative_actions or bool(step and step.config.get("enabled"))

    @property
    def needs_language(self) -> bool:
        """Whether the policy reads the task text."""
        return find_step(self.preprocessor, TOKENIZER) is not None or self.kind.language

    @property
    def chunk_size(self) -> int | None:
        """Steps of a chunk that the network returns, where its config says so."""
        return self.kind.chunk(self.config.get)

    @property
    def n_action_steps(self) -> int | None:
        """Steps of each chunk that the checkpoint says a robot runs."""
        return self.chunk_size if self.kind.cuts else self.settings.n_action_steps

    @property
    def ensembling(self) -> float | None:
        """The coefficient of ACT's temporal ensembling, or None."""
        return self.settings.temporal_ensemble_coeff if self.type == "act" else None

    @property
    def hub_models(self) -> tuple[str, ...]:
        """Models and tokenizers that it names as on the hub and doesn't bring along."""
        return tuple(name for name, folder in self.models.items() if folder is None)

    def subfolder(self, name: str) -> Path | None:
        """A model or tokenizer folder that the checkpoint brings along, wherever it lies now."""
        return Folder(self.path, self.directory).subfolder(name)


def find_step(steps: tuple[ProcessorStep, ...] | None, name: str) -> ProcessorStep | None:
    """The first step of that name, or None."""
    return next((step for step in steps or () if step.name == name), None)
