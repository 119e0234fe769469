"""Where a dataset lies: in a directory or a store, among lerobot's datasets, in the hub's cache.

The hub is asked for what is not on disk, never waited for, and never writes into a directory that
the user named.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from policyscope.config import DatasetConfig
from policyscope.config.addresses import is_url
from policyscope.data.files import Folder, unreadable
from policyscope.data.info import INFO
from policyscope.errors import DatasetError, first_line

_PATIENCE_S = 5.0
_VERSION = "v3.0"  # the tag that lerobot asks for
_UNTAGGED = "main"


def open_folder(config: DatasetConfig, repo_id: str) -> Folder:
    """A dataset's folder, which has at least its metadata.

    Raises:
        UsageError: ``--dataset.root`` is an address, and of no store.
        DatasetError: there is none at ``--dataset.root``, or none within reach.
    """
    if config.root is None or not is_url(config.root):
        return Folder(locate(config, repo_id), repo_id)
    from policyscope.data.mirror import Mirror

    mirror = Mirror(config.root)
    return Folder(mirror.root, repo_id, mirror)


def locate(config: DatasetConfig, repo_id: str) -> Path:
    """The directory of a dataset on this machine, which has at least its metadata.

    Raises:
        DatasetError: there is none at ``--dataset.root``, or none within reach.
    """
    if config.root is not None:
        return _named(config.root)
    from huggingface_hub.utils._validators import validate_repo_id
    from lerobot.utils.constants import HF_LEROBOT_HOME

    try:
        validate_repo_id(repo_id)
    except ValueError as error:
        raise _out_of_reach(repo_id, error) from error
    local = Path(HF_LEROBOT_HOME) / repo_id
    mirrored = (local / ".cache/huggingface/download").exists()  # of old: lerobot asks anew, too
    if (local / INFO).is_file() and not mirrored:
        return local.resolve()
    return fetch(repo_id, config.revision, ["meta/*"])


def fetch(repo_id: str, revision: str | None, names: Sequence[str]) -> Path:
    """Files of a dataset from the hub, or from its cache where the hub does not answer.

    Args:
        repo_id: its name.
        revision: branch, tag or commit; None for the version that lerobot reads.
        names: of the files, or patterns.

    Returns:
        The directory of the snapshot, which is lerobot's.

    Raises:
        DatasetError: neither the hub nor the cache has them.
    """
    from huggingface_hub import snapshot_download
    from lerobot.utils.constants import HF_LEROBOT_HUB_CACHE

    be_impatient()
    newest, why = _asked(repo_id, revision)
    tries = [(newest, False)] if newest is not None else []
    tries += [(name, True) for name in ([revision] if revision else [_VERSION, _UNTAGGED])]
    for name, cached in tries:
        try:
            return Path(
                snapshot_download(
                    repo_id,
                    repo_type="dataset",
                    revision=name,
                    cache_dir=HF_LEROBOT_HUB_CACHE,
                    allow_patterns=list(names),
                    etag_timeout=_PATIENCE_S,
                    local_files_only=cached,
                )
            ).resolve()
        except Exception as error:
            why = why or error  # what the hub said tells more than what the cache lacks
    raise _out_of_reach(repo_id, why or FileNotFoundError(repo_id)) from why


def _asked(repo_id: str, revision: str | None) -> tuple[str | None, Exception | None]:
    """The revision that the hub has, or None and why it can't be had there."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RevisionNotFoundError

    name = revision or _VERSION
    try:
        HfApi().dataset_info(repo_id, revision=name, timeout=_PATIENCE_S)
    except RevisionNotFoundError as error:
        if revision is not None:
            return None, error
        return _UNTAGGED, None  # its info.json says which format it has
    except Exception as error:  # the hub client raises a family of its own
        return None, error
    return name, None


def be_impatient() -> None:
    """Let no request to the hub wait for ever: most of its client's have no time-out of their own.

    A hook on each request, since the client passes "no time-out" to httpx in so many words.
    """
    import httpx
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils import _http

    def limit(request: httpx.Request) -> None:
        known = request.extensions.get("timeout", {})
        kinds = ("connect", "read", "write", "pool")
        request.extensions["timeout"] = {k: known.get(k) or 2 * _PATIENCE_S for k in kinds}

    def client() -> httpx.Client:
        patient = _http.default_client_factory()
        patient.event_hooks = {
            **patient.event_hooks,
            "request": [*patient.event_hooks["request"], limit],
        }
        return patient

    set_client_factory(client)


def _named(root: str) -> Path:
    expected = f"the directory of a LeRobot v3.0 dataset (it holds {INFO})"
    if is_url(root):
        raise DatasetError(
            f"--dataset.root {root}",
            expected=f"{expected} on this machine",
            found="an address",
            fix="copy it here first",
        )
    try:
        where = Path(root).expanduser()
        if (where / INFO).is_file():
            return where.resolve()
        found = f"a directory without {INFO}" if where.is_dir() else "no such directory"
    except (OSError, RuntimeError, ValueError) as error:  # denied, no such user, overlong, NUL
        raise unreadable(f"--dataset.root {root}", error) from error
    raise DatasetError(
        f"--dataset.root {root}",
        expected=expected,
        found=found,
        fix="give the dataset's own directory, or leave --dataset.root out to use cache and hub",
    )


def _out_of_reach(repo_id: str, error: BaseException) -> DatasetError:
    return DatasetError(
        f"--dataset.repo_id {repo_id}",
        expected="a local dataset, a cached one, or one on a reachable hub",
        found=f"none of them ({first_line(error)})",
        fix="give --dataset.root DIR, or check the spelling and the network",
    )
