"""Reading a checkpoint: everything but the weights, and everything checked.

Neither torch nor lerobot is imported, so that a run can be refused before anything slow begins,
and before anything that a file names could be taken for more than a name.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from policyscope.config import PolicyConfig
from policyscope.errors import CheckpointError, UsageError
from policyscope.policies.adapter import CONFIG as ADAPTER
from policyscope.policies.adapter import Adapter, is_adapter, read_adapter
from policyscope.policies.checkpoint import (
    POSTPROCESSOR,
    PREPROCESSOR,
    WEIGHTS,
    Checkpoint,
    Weights,
)
from policyscope.policies.declared import Settings, require_sane, typed
from policyscope.policies.folder import Folder
from policyscope.policies.hub import checkpoint_dir
from policyscope.policies.kinds import kind_of
from policyscope.policies.steps import (
    NORMALIZER,
    UNNORMALIZER,
    ProcessorStep,
    Stats,
    broken,
    read_pipeline,
)
from policyscope.policies.training import read_training

INDEX = WEIGHTS + ".index.json"
_BUFFER = re.compile(
    r"(?:model\.)?(normalize_inputs|unnormalize_outputs)\.(?:(.+)_)?buffer_(.+)\.(\w+)"
)
"""A statistic in the weights of lerobot before 0.4: which layer, dataset, feature, statistic."""
_REPO = re.compile(r"[\w-][\w.-]{0,95}(/[\w-][\w.-]{0,95})?")
_NAMES = re.compile(r"(?!repo_id$|pretrained_|dataset_).*(_name|_path|_id|_repo|_dir|_base)")
"""Fields that name a model, in policy types that nobody looked at."""
_MOST_SHARDS = 1000


def read_checkpoint(policy: PolicyConfig) -> Checkpoint:
    """Read everything but the weights.

    Raises:
        CheckpointError: not a checkpoint, or one of its files is missing, truncated or unsafe.
    """
    path = policy.path or ""
    folder = Folder(path, checkpoint_dir(path, policy.revision))
    config = _config(folder)
    settings = _settings(folder, config)
    adapter = read_adapter(folder, policy.base) if is_adapter(folder, WEIGHTS) else None
    if adapter is None and policy.base is not None:
        raise UsageError(
            "--policy.base",
            expected="an adapter (LoRA) at --policy.path",
            found="a whole policy",
            fix="leave it out",
        )
    weights = _weights(folder) if adapter is None else _on_base(adapter, settings)
    require_sane(
        config,
        f"{path}/config.json",
        n_tensors=len(weights.names),
        n_parameters=weights.n_parameters,
    )
    folder.require_plain("config.json", config)
    preprocessor = read_pipeline(folder, PREPROCESSOR)
    postprocessor = read_pipeline(folder, POSTPROCESSOR)
    recovered = None
    if preprocessor is None and postprocessor is None:
        recovered = _recovered(weights, settings)
    return Checkpoint(
        path=path,
        directory=folder.directory,
        config=config,
        settings=settings,
        preprocessor=recovered[:1] if recovered else preprocessor,
        postprocessor=recovered[1:] if recovered else postprocessor,
        weights=weights,
        processors_sha256=_digest(folder),
        training=read_training(folder.json("train_config.json", finite=False)),
        recovered=recovered is not None,
        models=_models(folder, config, (*(preprocessor or ()), *(postprocessor or ()))),
        adapter=adapter,
    )


def _config(folder: Folder) -> dict[str, Any]:
    config = folder.table("config.json")
    if config is not None and "type" in config:
        return config
    found, fix = "no config.json", _nested_hint(folder.directory)
    if folder.file(ADAPTER) is not None:
        found = "an adapter (LoRA) without the policy's config.json, which lerobot saves beside it"
        fix = "copy config.json and the processors of its base into the folder"
    elif config is not None:
        found = "a config.json without a policy type"
        trained = folder.json("train_config.json", finite=False)
        policy = trained.get("policy") if isinstance(trained, dict) else None
        said = policy.get("type") if isinstance(policy, dict) else None
        if isinstance(said, str):
            fix = f'add "type": "{said[:40]}" to config.json, as train_config.json has it'
        elif "input_features" in config or "input_shapes" in config:
            fix = 'add the policy type to config.json, for example "type": "act"'
        elif "model_type" in config or "architectures" in config:
            found = "the config.json of a transformers model, which is no policy"
    raise CheckpointError(
        f"--policy.path {folder.path}",
        expected="a LeRobot checkpoint with config.json",
        found=found,
        fix=fix,
    )


def _settings(folder: Folder, config: dict[str, Any]) -> Settings:
    what = f"{folder.path}/config.json"
    features = (config.get("input_features"), config.get("output_features"))
    if not all(isinstance(f, dict) for f in features) or "action" not in config["output_features"]:
        raise CheckpointError(
            what,
            expected="input_features and output_features with an action",
            found="none",
            fix="save the policy again with lerobot's save_pretrained",
        )
    settings = typed(Settings, config, what)
    if kind_of(settings.type).runs_code:
        raise CheckpointError(
            f"--policy.path {folder.path}",
            expected="a policy type that opens without running code from a checkpoint or the hub",
            found=f"{settings.type}, for which lerobot trusts such code",
            fix="evaluate another type: policyscope never runs code that a checkpoint names",
        )
    return settings


def _nested_hint(directory: Path) -> str:
    """Where weights lie below, in the layouts of lerobot's own training runs."""
    patterns = ("*/", "*/*/", "*/*/*/")
    nested = sorted(p.parent for each in patterns for p in directory.glob(each + WEIGHTS))
    if nested:
        return f"--policy.path {nested[-1]}"
    return "give the directory that holds config.json and model.safetensors"


def _on_base(adapter: Adapter, settings: Settings) -> Weights:
    """The weights of an adapter's base, under a digest that is of both."""
    base = Folder(adapter.base, adapter.directory)
    kind = (base.table("config.json") or {}).get("type")
    if kind != settings.type:
        raise CheckpointError(
            f"the adapter's base {adapter.base}",
            expected=f"a policy of type {settings.type}",
            found=f"type {str(kind)[:40]}" if kind else "no config.json with a type",
            fix="--policy.base DIR_OR_REPO, the checkpoint that it was trained on",
        )
    weights = _weights(base)
    both = hashlib.sha256(f"{weights.sha256}{adapter.sha256}".encode()).hexdigest()
    return replace(weights, sha256=both, n_parameters=weights.n_parameters + adapter.n_parameters)


def _weights(folder: Folder) -> Weights:
    files = list(_weight_files(folder))
    names: set[str] = set()
    n_parameters, digests = 0, []
    for file in files:
        try:
            with safe_open(file, framework="numpy") as weights:
                for key in weights.keys():  # noqa: SIM118
                    names.add(key)
                    n_parameters += math.prod(weights.get_slice(key).get_shape())
        except (SafetensorError, OSError) as error:
            raise broken(file, f"{folder.path}/{file.name}", error) from error
        with file.open("rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
    whole = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode())
    sha256 = whole if isinstance(whole, str) else whole.hexdigest()
    return Weights(tuple(files), sha256, n_parameters, frozenset(names))


def _weight_files(folder: Folder) -> Iterator[Path]:
    single = folder.file(WEIGHTS)
    if single is not None:
        yield single
        return
    index = folder.table(INDEX)
    if index is None:
        raise _no_weights(folder, WEIGHTS)
    placed = index.get("weight_map")
    names = set(placed.values()) if isinstance(placed, dict) and _texts(placed) else set()
    if not 0 < len(names) <= _MOST_SHARDS:
        raise CheckpointError(
            f"{folder.path}/{INDEX}",
            expected="a weight_map from tensors to files",
            found="none" if not names else f"{len(names)} files",
            fix="copy the checkpoint again",
        )
    for name in sorted(names):
        file = folder.file(name)
        if file is None:
            raise _no_weights(folder, name)
        yield file


def _texts(table: dict[str, Any]) -> bool:
    return all(isinstance(value, str) for value in table.values())


def _no_weights(folder: Folder, name: str) -> CheckpointError:
    pickled = any(folder.directory.glob("*.bin")) or any(folder.directory.glob("*.pt"))
    return CheckpointError(
        f"--policy.path {folder.path}",
        expected=name,
        found="pickled weights, which are never loaded" if pickled else "no such file",
        fix="copy the checkpoint again, or save it with lerobot's save_pretrained",
    )


def _recovered(weights: Weights, settings: Settings) -> tuple[ProcessorStep, ...] | None:
    """The two steps that statistics in the weights amount to, or None where it has none.

    Buffers that were never filled hold infinity and don't count.
    """
    features = {**settings.input_features, **settings.output_features}
    names = {key.replace(".", "_"): key for key in features}
    found: dict[str, Stats] = {"normalize_inputs": {}, "unnormalize_outputs": {}}
    for file in weights.files:
        with safe_open(file, framework="numpy") as tensors:
            for key in tensors.keys():  # noqa: SIM118
                match = _BUFFER.fullmatch(key)
                if match is None:
                    continue
                layer, dataset, feature, statistic = match.groups()
                values = tensors.get_tensor(key)
                name = names.get(str(feature), str(feature))
                if np.isfinite(values).all():
                    stored = name if dataset is None else f"{dataset}.buffer.{name}"
                    found[str(layer)].setdefault(stored, {})[str(statistic)] = values
    if not any(found.values()):
        return None
    modes = settings.modes if settings.names_modes else kind_of(settings.type).modes
    return (
        ProcessorStep(NORMALIZER, {"norm_map": modes}, found["normalize_inputs"], modes),
        ProcessorStep(UNNORMALIZER, {"norm_map": modes}, found["unnormalize_outputs"], modes),
    )


def _digest(folder: Folder) -> str:
    digest = hashlib.sha256()
    names = ["config.json", *sorted(f.name for f in folder.directory.glob("policy_p*processor*"))]
    for name in names:
        file = folder.file(name)
        if file is not None:
            digest.update(name.encode())
            with file.open("rb") as stream:
                while part := stream.read(2**20):
                    digest.update(part)
    return digest.hexdigest()


def _models(
    folder: Folder, config: dict[str, Any], steps: tuple[ProcessorStep, ...]
) -> dict[str, Path | None]:
    """Every model that the checkpoint names: in a sub-folder, free of code, or the hub's."""
    kind = kind_of(str(config["type"]))
    named = [config.get(field) for field in kind.models]
    if not kind.vouched:
        named += [value for key, value in config.items() if _NAMES.fullmatch(key)]
    named += [value for s in steps for key, value in s.config.items() if _NAMES.fullmatch(key)]
    models: dict[str, Path | None] = {}
    for name in dict.fromkeys(n for n in named if isinstance(n, str) and n):
        models[name] = folder.subfolder(name)
        inner = models[name]
        if inner is not None:
            folder.require_no_code(inner)
        elif not _REPO.fullmatch(name) or Path(name).exists():
            raise CheckpointError(
                f"--policy.path {folder.path}",
                expected="models in sub-folders of the checkpoint, or on the hub",
                found=f"{name[:200]!r}"
                + (", a folder of the working directory" if _REPO.fullmatch(name) else ""),
                fix="copy that folder into the checkpoint, under its own name",
            )
    return models
