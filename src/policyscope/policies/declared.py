"""What the files of a checkpoint say, checked at the door and typed.

Nothing here is trusted: every size has a bound, so that no network, no tensor and no loop is
begun that the checkpoint could not mean. What lerobot's own classes read beside these fields is
handed on as it is, with its numbers bounded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from policyscope.errors import CheckpointError
from policyscope.policies.folder import keys_and_values

Mode = Literal["IDENTITY", "MEAN_STD", "MIN_MAX", "QUANTILES", "QUANTILE10"]
FeatureType = Literal["STATE", "VISUAL", "ENV", "ACTION", "REWARD", "LANGUAGE"]
Modes = dict[FeatureType, Mode]

STATE = "observation.state"
_MOST_VALUES = 2**26
"""Values of one feature: a picture of 8192 × 8192 has fewer for each of its channels."""
_MOST_LAYERS = 1000
_MOST = 2**31
_LAYERS = re.compile(r"(.*_)?(n|num)_.*layers?|(.*_)?depths?|.*_n_layer")
_LENGTHS = re.compile(r".*(max_length|max_len_seq|_size_limit)")
_LOOPS = re.compile(r"(.*_)?(num|n)_.*(steps|iterations|samples)|cem_iterations")
_SIDES = re.compile(r".*(resize|crop|resolution|padding)\w*")
_WIDTHS = re.compile(r"(.*_)?(n_)?(dim|dims|size|width|channels|heads?|head_dim|hidden\w*|model)")

Dim = Annotated[int, Field(strict=True, ge=1, le=65536)]
Steps = Annotated[int, Field(strict=True, ge=1, le=10_000)]
Text = Annotated[str, Field(strict=True, max_length=4096)]
Name = Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9][\w.-]{0,63}$")]


class _Declared(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow", arbitrary_types_allowed=True)


@final
class Feature(_Declared):
    """An input or output of a policy.

    Attributes:
        type: what it is.
        shape: without batch axis; pictures are (C, H, W).
    """

    type: FeatureType
    shape: Annotated[tuple[Dim, ...], Field(max_length=6)]

    @model_validator(mode="after")
    def _bounded(self) -> Feature:
        if math.prod(self.shape) > _MOST_VALUES:
            raise ValueError(f"at most {_MOST_VALUES} values")
        return self


@final
class Settings(_Declared):
    """``config.json``: what every policy type has, and what this package reads of the others.

    Attributes:
        type: lerobot's policy type.
        input_features: key → feature.
        output_features: key → feature, with ``action``.
        normalization_mapping: feature type → mode; empty where the file names none.
        n_obs_steps: observations that it looks at.
        n_action_steps: steps of a chunk that a robot runs.
        chunk_size: steps of a chunk.
        empty_cameras: cameras that get a masked picture.
        temporal_ensemble_coeff: of ACT's ensembling over overlapping chunks.
        use_peft: whether its weights are an adapter's.
        compile_model: whether it compiles itself.
        rtc_config: real-time chunking, which needs an action queue that is still being run.
    """

    type: Name
    input_features: dict[Text, Feature]
    output_features: dict[Text, Feature]
    normalization_mapping: Modes = Field(default_factory=dict)
    n_obs_steps: Annotated[int, Field(strict=True, ge=1, le=1000)] = 1
    n_action_steps: Steps | None = None
    chunk_size: Steps | None = None
    action_chunk_size: Steps | None = None
    horizon: Steps | None = None
    empty_cameras: Annotated[int, Field(strict=True, ge=0, le=64)] = 0
    action_feature_names: list[Text] | None = None
    use_relative_actions: bool = False
    temporal_ensemble_coeff: Annotated[float, Field(allow_inf_nan=False)] | None = None
    use_peft: bool = False
    compile_model: bool = False
    fps: Annotated[float, Field(gt=0, le=1e6)] | None = None
    rtc_config: dict[str, Any] | None = None

    @property
    def modes(self) -> dict[str, str]:
        """`normalization_mapping` as plain texts."""
        return {str(kind): str(mode) for kind, mode in self.normalization_mapping.items()}

    @property
    def names_modes(self) -> bool:
        """Whether the file has a normalization mapping."""
        return "normalization_mapping" in self.model_fields_set

    @model_validator(mode="after")
    def _whole(self) -> Settings:
        if "action" not in self.output_features:
            raise ValueError("input_features and output_features with an action")
        for feature in (self.output_features["action"], self.input_features.get(STATE)):
            if feature is not None and not feature.shape:
                raise ValueError("an action and a state of at least one dim")
        return self


@final
class Step(_Declared):
    """One step of a saved processor.

    Attributes:
        registry_name: under which lerobot, or an installed plugin, registers its class.
        config: its arguments.
        state_file: the safetensors file that holds its statistics.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")
    registry_name: Name
    config: dict[str, Any] = Field(default_factory=dict)
    state_file: Text | None = None


@final
class Normalizing(_Declared):
    """The arguments of a step that normalizes.

    Attributes:
        norm_map: feature type → mode. lerobot takes IDENTITY for what it does not name.
        features: key → feature.
    """

    norm_map: Modes
    features: dict[Text, Feature] = Field(default_factory=dict)

    @property
    def modes(self) -> dict[str, str]:
        """`norm_map` as plain texts."""
        return {str(kind): str(mode) for kind, mode in self.norm_map.items()}


@final
class Renaming(_Declared):
    """The arguments of the step that renames observations."""

    rename_map: dict[Text, Text] = Field(default_factory=dict)


@final
class Tokenizing(_Declared):
    """The arguments of the step that makes words of the task text."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    tokenizer_name: Text | None = None
    max_length: Annotated[int, Field(strict=True, ge=1, le=32768)] = 512
    task_key: Text = "task"
    padding_side: Literal["right", "left"] = "right"
    padding: Literal["max_length", "longest", "do_not_pad"] | bool = "max_length"
    truncation: bool | Text = True


@final
class Pipeline(_Declared):
    """``policy_preprocessor.json`` or ``policy_postprocessor.json``."""

    name: Text = "DataProcessorPipeline"
    steps: Annotated[list[dict[str, Any]], Field(max_length=200)]


def typed[T: BaseModel](kind: type[T], content: Any, what: str) -> T:
    """The content of a file as what it should be.

    Args:
        kind: what it should be.
        content: parsed JSON.
        what: names the file.

    Raises:
        CheckpointError: it is something else; the line names the field.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])[:100]
        context = first.get("ctx") or {}
        reason = context.get("error") or context.get("expected") or first["msg"]
        raise CheckpointError(
            f"{what}{f', {where}' if where else ''}",
            expected=re.sub(r"^Input should be ", "", str(reason)),
            found=_shown(first["input"]) if where else "something else",
            fix="save the policy again with lerobot's save_pretrained, or copy its files again",
        ) from None


def require_sane(
    content: Mapping[str, Any], what: str, *, n_tensors: int, n_parameters: int
) -> None:
    """Raise where a number in a configuration can't be meant.

    Args:
        content: parsed JSON.
        what: names the file.
        n_tensors: in the weights: a network has no more layers than those.
        n_parameters: in the weights: no layer is wider than that.

    Raises:
        CheckpointError: a layer count, a length, a side or a loop beyond reason.
    """
    for key, value in keys_and_values(dict(content)):
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, bool) or not isinstance(number, int | float):
                continue
            most = _most(key, n_tensors, n_parameters)
            if abs(number) > most:
                raise CheckpointError(
                    f"{what}, {key}",
                    expected=f"a number of at most {most}",
                    found=_shown(number),
                    fix="copy the file again: no network has this",
                )


def _most(key: str, n_tensors: int, n_parameters: int) -> int:
    if _LAYERS.fullmatch(key):
        return min(_MOST_LAYERS, max(n_tensors, 1))
    if _LENGTHS.fullmatch(key):
        return 32768
    if _LOOPS.fullmatch(key) and not key.startswith(("scheduler_", "n_vqvae_training")):
        return 100_000
    if _SIDES.fullmatch(key):
        return 8192
    return max(n_parameters, 4096) if _WIDTHS.fullmatch(key) else _MOST


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
