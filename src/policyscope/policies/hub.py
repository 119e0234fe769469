"""The hub: asked what is newest where a branch may have moved, and never waited for."""

from __future__ import annotations

import re
from pathlib import Path

from policyscope.data.hub import be_impatient
from policyscope.errors import CheckpointError, first_line

PATIENCE_S = 5.0
_WANTED = ("*.json", "*.safetensors", "*.txt", "*.model")
"""JSON, tokenizers and safetensors: no pickle, no code."""
_REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_SHARD = re.compile(r"model-\d+-of-(\d+)\.safetensors")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def checkpoint_dir(path: str, revision: str | None) -> Path:
    """The local directory of a checkpoint: a directory as it is, a repo id from hub or cache.

    A branch or a tag may have moved since it was cached, so that the hub is asked first; a cache
    that holds whole weights serves where the hub can't be reached, and a commit needs no hub.

    Raises:
        CheckpointError: no such directory, and no such repository within reach.
    """
    try:
        local = Path(path).expanduser()
        there, found = local.is_dir(), local.exists()
    except (OSError, ValueError, RuntimeError) as error:
        raise _nowhere(path, first_line(error)) from error
    if there and path.strip():
        return local.resolve()
    if found or not _REPO.fullmatch(path):
        raise _nowhere(path, "a file" if found else "no such directory")
    from huggingface_hub import HfApi, snapshot_download

    be_impatient()
    cached = _cached(path, revision)
    if cached is not None and (_whole(cached) and _COMMIT.fullmatch(revision or "")):
        return cached
    try:
        newest = HfApi().model_info(path, revision=revision, timeout=PATIENCE_S).sha
        if cached is not None and cached.name == newest and _whole(cached):
            return cached
        fetched = snapshot_download(path, revision=revision, allow_patterns=list(_WANTED))
        return Path(fetched).resolve()
    except Exception as error:
        if cached is not None and _whole(cached):
            return cached
        raise CheckpointError(
            f"--policy.path {path}",
            expected="a local directory, a cached repository, or a reachable hub repository",
            found=f"none of them ({first_line(error)})"
            if cached is None
            else f"a cache without weights ({first_line(error)})",
            fix="check the spelling and the network, or give a local directory",
        ) from error


def _cached(path: str, revision: str | None) -> Path | None:
    """What the cache holds of that revision, whole or not."""
    from huggingface_hub import snapshot_download

    try:
        kept = snapshot_download(
            path, revision=revision, allow_patterns=list(_WANTED), local_files_only=True
        )
    except (OSError, ValueError):  # not cached, or under a name that no repository has
        return None
    return Path(kept).resolve()


def _whole(directory: Path) -> bool:
    """Whether a snapshot holds weights: somebody may have fetched its config.json alone."""
    names = {file.name for file in directory.glob("*.safetensors") if file.exists()}
    if names & {"model.safetensors", "adapter_model.safetensors"}:
        return True
    totals = [int(found[1]) for name in names if (found := _SHARD.fullmatch(name))]
    return bool(totals) and len(totals) == totals[0]


def _nowhere(path: str, found: str) -> CheckpointError:
    return CheckpointError(
        f"--policy.path {path[:300]}",
        expected="a pretrained directory or a hub repo id (user/name)",
        found=found,
        fix="give the directory that holds config.json and model.safetensors",
    )
