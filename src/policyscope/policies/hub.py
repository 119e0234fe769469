"""The hub, asked only for what is not on disk, and never waited for."""

from __future__ import annotations

from pathlib import Path

from policyscope.errors import CheckpointError, first_line

_PATIENCE_S = 5.0


def checkpoint_dir(path: str, revision: str | None) -> Path:
    """The local directory of a checkpoint: a directory as it is, a repo id from cache or hub.

    Only JSON, tokenizer and safetensors files are fetched: no pickle, no code.

    Raises:
        CheckpointError: no such directory, and no such repository within reach.
    """
    local = Path(path).expanduser()
    if local.is_dir():
        return local.resolve()
    if local.exists() or path.startswith(("/", ".", "~")) or path.count("/") != 1:
        raise CheckpointError(
            f"--policy.path {path}",
            expected="a pretrained directory or a hub repo id (user/name)",
            found="a file" if local.exists() else "no such directory",
            fix="give the directory that holds config.json and model.safetensors",
        )
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    wanted = ["*.json", "*.safetensors", "*.txt", "*.model"]
    try:
        return Path(
            snapshot_download(path, revision=revision, allow_patterns=wanted, local_files_only=True)
        )
    except (LocalEntryNotFoundError, OSError):
        pass  # not cached: ask the hub
    try:
        HfApi().model_info(path, revision=revision, timeout=_PATIENCE_S)
        return Path(snapshot_download(path, revision=revision, allow_patterns=wanted))
    except Exception as error:
        raise CheckpointError(
            f"--policy.path {path}",
            expected="a local directory, a cached repository, or a reachable hub repository",
            found=f"none of them ({first_line(error)})",
            fix="check the spelling and the network, or give a local directory",
        ) from error
