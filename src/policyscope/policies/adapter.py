"""Adapters (LoRA) as lerobot-train saves them: few weights beside a base that holds the others.

The file of settings comes from a stranger. peft would match its patterns against the network, and
they can be made to take for ever; here the modules are those that the adapter's own tensors name,
each by its full name, with the rank that its tensors have.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, final

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, safe_open

from policyscope.errors import CheckpointError, UsageError
from policyscope.policies.folder import Folder
from policyscope.policies.hub import checkpoint_dir
from policyscope.policies.steps import broken

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_A = re.compile(r"(.+)\.lora_(?:A|embedding_A)(?:\.weight)?")
_REPO = re.compile(r"[\w-][\w.-]{0,95}/[\w-][\w.-]{0,95}")
_PLAIN = re.compile(r"[\w.]{1,500}")
_Alpha = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]


@final
class _Settings(BaseModel):
    """What ``adapter_config.json`` says, as far as it changes numbers."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    peft_type: Literal["LORA"]
    lora_alpha: _Alpha = 8
    alpha_pattern: dict[str, _Alpha] = Field(default_factory=dict, max_length=10_000)
    bias: Literal["none", "all", "lora_only"] = "none"
    use_rslora: bool = False
    use_dora: bool = False
    fan_in_fan_out: bool = False
    lora_bias: bool = False
    modules_to_save: list[str] | None = Field(default=None, max_length=10_000)
    base_model_name_or_path: str | None = None
    revision: str | None = None
    # What would change the numbers in ways that are not known here.
    use_qalora: Literal[False] = False
    megatron_config: None = None
    arrow_config: None = None
    target_parameters: list[str] | None = Field(default=None, max_length=0)
    trainable_token_indices: None = None
    layer_replication: None = None
    alora_invocation_tokens: None = None


@final
@dataclass(frozen=True)
class Adapter:
    """An adapter, before its weights are loaded.

    Attributes:
        file: its weights.
        base: what the base is called.
        directory: where the base lies.
        ranks: full name of each adapted module → rank.
        settings: of ``adapter_config.json``, checked.
        sha256: of weights and settings.
        n_parameters: numbers stored.
    """

    file: Path
    base: str
    directory: Path
    ranks: Mapping[str, int]
    settings: _Settings
    sha256: str
    n_parameters: int

    @property
    def line(self) -> str:
        """What it is, in a few words."""
        ranks = sorted(set(self.ranks.values()))
        shown = f"{ranks[0]}" if len(ranks) == 1 else f"{ranks[0]} to {ranks[-1]}"
        return f"LoRA of rank {shown} on {len(self.ranks)} modules of {self.base}"


def is_adapter(folder: Folder, weights: str) -> bool:
    """Whether a folder holds an adapter and no weights of its own."""
    return folder.file(CONFIG) is not None and folder.file(weights) is None


def read_adapter(folder: Folder, base: str | None) -> Adapter:
    """Read an adapter's settings and the headers of its weights, and find its base.

    Args:
        folder: of the adapter.
        base: ``--policy.base``; None takes what the settings name, if it is a sub-folder or on the
            hub.

    Raises:
        CheckpointError: no such adapter can be opened here, or its base is not within reach.
    """
    content = folder.table(CONFIG) or {}
    try:
        settings = _Settings.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        field = ".".join(map(str, first["loc"])) or "its content"
        raise CheckpointError(
            f"{field} in {folder.path}/{CONFIG}",
            expected="a LoRA adapter, as lerobot-train saves it",
            found=repr(content.get(field, "no such field"))[:80],
            fix=_MERGED,
        ) from None
    file = folder.file(WEIGHTS)
    if file is None:
        raise CheckpointError(
            f"--policy.path {folder.path}",
            expected=f"{WEIGHTS} beside {CONFIG}",
            found="no such file",
            fix="copy it again; pickled weights are never loaded",
        )
    ranks, n_parameters = _ranks(file, folder)
    with file.open("rb") as stream:
        weights = hashlib.file_digest(stream, "sha256").hexdigest()
    said = settings.model_dump_json(exclude={"base_model_name_or_path", "revision"})
    sha256 = hashlib.sha256(f"{weights}{said}".encode()).hexdigest()
    name, directory = _base(folder, settings, base)
    return Adapter(file, name, directory, ranks, settings, sha256, n_parameters)


_MERGED = (
    "merge it into its base with peft (merge_and_unload), save the policy with save_pretrained, "
    "then give that folder"
)


def _ranks(file: Path, folder: Folder) -> tuple[dict[str, int], int]:
    ranks: dict[str, int] = {}
    n = 0
    try:
        with safe_open(file, framework="numpy") as tensors:
            for key in tensors.keys():  # noqa: SIM118
                shape = tensors.get_slice(key).get_shape()
                n += _product(shape)
                found = _A.fullmatch(key.removeprefix(_PREFIX))
                if found is not None and shape and _PLAIN.fullmatch(found[1]):
                    ranks[found[1]] = int(shape[0])
    except (SafetensorError, OSError) as error:
        raise broken(file, f"{folder.path}/{WEIGHTS}", error) from error
    if not ranks:
        raise CheckpointError(
            f"{folder.path}/{WEIGHTS}",
            expected="tensors of a LoRA (….lora_A.weight)",
            found="none",
            fix=_MERGED,
        )
    return ranks, n


def _product(shape: list[int]) -> int:
    n = 1
    for size in shape:
        n *= size
    return n


def _base(folder: Folder, settings: _Settings, given: str | None) -> tuple[str, Path]:
    if given is not None:
        return given, checkpoint_dir(given, None)
    name = settings.base_model_name_or_path or ""
    inner = folder.subfolder(name) if name else None
    if inner is not None:
        return name, inner.resolve()
    if _REPO.fullmatch(name) and not Path(name).exists():
        return name, checkpoint_dir(name, settings.revision)
    raise CheckpointError(
        f"--policy.path {folder.path}",
        expected="an adapter whose base lies in a sub-folder or on the hub, or --policy.base",
        found=f"a LoRA adapter for {name[:200]!r}" if name else "a LoRA adapter for no base",
        fix="--policy.base DIR_OR_REPO, the checkpoint that it was trained on",
    )


def merged(policy: Any, adapter: Adapter) -> Any:
    """A policy with an adapter's weights in its own.

    Args:
        policy: lerobot's, with the weights of the base.
        adapter: what belongs on it.

    Raises:
        CheckpointError: it belongs to another network.
        UsageError: peft is not installed.
    """
    try:
        from peft import LoraConfig, PeftModel, set_peft_model_state_dict
    except ImportError as error:
        raise UsageError(
            "a LoRA adapter",
            expected="peft, which puts it into its base",
            found="no such package",
            fix="pip install 'policyscope[peft]'",
        ) from error
    from safetensors.torch import load_file

    said, ranks = adapter.settings, adapter.ranks
    names = dict(policy.named_modules())
    unknown = [name for name in ranks if name not in names]
    if unknown:
        raise _another(adapter, unknown[0])
    kept = load_file(adapter.file)
    config = LoraConfig(
        r=max(ranks.values()),
        lora_alpha=said.lora_alpha,
        target_modules=list(ranks),
        rank_pattern={_exactly(name): rank for name, rank in ranks.items()},
        alpha_pattern=dict(_alphas(said, ranks)),
        bias=said.bias,
        use_rslora=said.use_rslora,
        use_dora=said.use_dora,
        fan_in_fan_out=said.fan_in_fan_out,
        lora_bias=said.lora_bias,
        modules_to_save=_saved(said, kept, names) or None,
    )
    model = PeftModel(policy, config)
    told = set_peft_model_state_dict(model, kept)
    if told.unexpected_keys:
        raise _another(adapter, told.unexpected_keys[0])
    whole = model.merge_and_unload()
    whole.eval()
    return whole


def _exactly(name: str) -> str:
    return "^" + re.escape(name)


def _alphas(said: _Settings, ranks: Mapping[str, int]) -> Iterator[tuple[str, float]]:
    """Alpha of each module that a name, or the end of one, gives another; patterns are refused."""
    for end, alpha in said.alpha_pattern.items():
        plain = end.removeprefix("^").replace("\\.", ".")
        if not _PLAIN.fullmatch(plain):
            raise CheckpointError(
                f"alpha_pattern in {CONFIG}",
                expected="names of modules",
                found=repr(end)[:80],
                fix=_MERGED,
            )
        for name in ranks:
            if name == plain or (name.endswith(f".{plain}") and not end.startswith("^")):
                yield _exactly(name), alpha


def _saved(said: _Settings, kept: Mapping[str, Any], names: Mapping[str, Any]) -> list[str]:
    """Full names of the modules that were trained whole, whose weights the adapter holds."""
    plain = [name.removeprefix(_PREFIX) for name in kept if ".lora_" not in name]
    owners = {name.rpartition(".")[0] for name in plain}
    return [
        name
        for name in names
        if any(owner == name or owner.startswith(f"{name}.") for owner in owners)
        and any(name == end or name.endswith(f".{end}") for end in said.modules_to_save or ())
    ]


def _another(adapter: Adapter, name: str) -> CheckpointError:
    return CheckpointError(
        f"{adapter.file}",
        expected=f"an adapter for modules of {adapter.base}",
        found=f"{name[:200]!r}, which it has not",
        fix="--policy.base DIR_OR_REPO, the checkpoint that it was trained on",
    )
