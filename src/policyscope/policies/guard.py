"""What must not happen while a stranger's network is being built, whatever its files say."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from policyscope.errors import CheckpointError

_GIB = 2**30
_ROOM, _DEVICE_ROOM = 4 * _GIB, 64 * _GIB
"""Beside the weights: what a network needs while it is built; drivers of devices map more."""


@contextlib.contextmanager
def no_foreign_code() -> Iterator[None]:
    """Within, transformers runs no code of a model, and does not ask at the terminal whether to.

    It takes code from a model's folder or repository (``auto_map``) and attention kernels from the
    hub. The functions that import them are replaced for as long as a checkpoint is being opened.

    Raises:
        CheckpointError: a model names code.
    """
    from transformers import dynamic_module_utils as dynamic
    from transformers.integrations import hub_kernels

    changed: list[tuple[Any, str, Any]] = [
        (dynamic, "TIME_OUT_REMOTE_CODE", 0),
        (dynamic, "get_class_in_module", _refuse),
        (dynamic, "get_cached_module_file", _refuse),
        (hub_kernels, "get_kernel_hub", _refuse),
    ]
    known = [(module, name, getattr(module, name, None)) for module, name, _ in changed]
    try:
        for module, name, value in changed:
            setattr(module, name, value)
        yield
    finally:
        for module, name, value in known:
            setattr(module, name, value)


def _refuse(*_: Any, **__: Any) -> NoReturn:
    raise CheckpointError(
        "a model that the checkpoint names",
        expected="a model that runs no foreign code",
        found="one that brings its own",
        fix="policyscope runs no code that a checkpoint names: evaluate another checkpoint",
    )


@contextlib.contextmanager
def bounded_memory(size: int, *, roomy: bool) -> Iterator[None]:
    """Within, this process can't take much more memory than weights of `size` bytes justify.

    A configuration can describe a network of any size; a tensor too many is then an error of the
    allocator, which is reported, instead of the end of the process. Where the operating system
    offers no such limit, nothing is limited.

    Args:
        size: bytes of the weights on disk, which may be half as long in the file as in memory.
        roomy: leave room for the driver of a device.
    """
    try:
        import resource

        used = _data_bytes()
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    except (ImportError, OSError, ValueError):
        yield
        return
    most = used + 6 * size + (_DEVICE_ROOM if roomy else _ROOM)
    most = min([most, *(limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY)])
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _data_bytes() -> int:
    """Bytes of private writable memory that this process has mapped (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    raise ValueError("no VmData")
