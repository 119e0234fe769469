"""Ray, started on this machine or joined where it stands; whoever works elsewhere is there."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, final

from policyscope.config import RayConfig
from policyscope.errors import UsageError, first_line
from policyscope.sim.adapter import replaced
from policyscope.sim.pool import cores

_STORE = 1 << 29  # bytes of answers on their way; more go to the disk
_CONNECT_S = 10.0
_SHARE = 4  # CPUs, beyond which more workers do more than more threads
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # workers run what runs here, not what uv would install
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
}


def has_ray() -> bool:
    """Whether Ray is installed."""
    return find_spec("ray") is not None


def require_ray(config: RayConfig) -> None:
    """Raise unless Ray is installed, and somebody listens where it should stand.

    Raises:
        UsageError: it is not, or nobody does.
    """
    if not has_ray():
        raise UsageError(
            "--engine ray",
            expected="the package ray",
            found="none",
            fix="pip install 'policyscope[ray]'",
        )
    host, _, port = (config.address or "auto").rpartition(":")
    if host:  # Ray itself would try for minutes
        try:
            socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()
        except (OSError, OverflowError) as error:
            raise _unanswered(config, error) from error


@contextlib.contextmanager
def joined(config: RayConfig) -> Iterator[Any]:
    """Within it, Ray runs; what was started here ends with it, however it is left.

    Where this process is in a cluster already, it stays in that one, and nothing ends.

    Yields:
        The module.

    Raises:
        UsageError: Ray is not installed, or does not answer.
    """
    require_ray(config)
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        yield ray
        return
    home = Path(tempfile.mkdtemp(prefix="policyscope-ray-"))
    empty = home / "empty"
    empty.mkdir()
    try:
        # Ray has workers import from the directory in which it is joined, before all else; they
        # must find nothing in the user's, which may be a stranger's. Below `uv run` it would also
        # pack that directory up, which the variable above forbids if Ray was not imported before.
        uv = replaced(ray._private.ray_constants, "RAY_ENABLE_UV_RUN_RUNTIME_ENV", False)
        with contextlib.chdir(empty), uv:
            _join(ray, config, home)
        # It would print what became of its processes; whoever asks them is told, too.
        with replaced(ray._private.worker, "print_to_stdstream", lambda *_, **__: None):
            yield ray
    finally:
        ray.shutdown()
        shutil.rmtree(home, ignore_errors=True)


def _join(ray: Any, config: RayConfig, home: Path) -> None:
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    common = {"log_to_driver": False, "configure_logging": False}
    try:
        if config.address is not None:
            ray.init(address=config.address, **common)
            return
        # Ray's ports are open to the network: only who holds this run's token is let in.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        ray.init(
            address="local",
            num_cpus=max(cores(), (config.workers or 1) * (config.cpus or 1)),
            object_store_memory=_STORE,
            include_dashboard=False,
            _temp_dir=str(home),
            **common,
        )
    except Exception as error:  # whatever Ray raises where nobody answers
        raise _unanswered(config, error) from error


def _unanswered(config: RayConfig, error: Exception) -> UsageError:
    found = f"{type(error).__name__}: {first_line(error)}"
    if config.address is None:
        return UsageError(
            "--engine ray",
            expected="Ray that starts on this machine",
            found=found,
            fix="free memory and disk, or --engine local",
        )
    return UsageError(
        f"--ray.address {config.address}",
        expected="a Ray cluster that answers",
        found=found,
        fix="ray status there shows whether it runs; Ray and Python must have its versions, and "
        "RAY_AUTH_TOKEN its token",
    )


def nodes(ray: Any) -> list[tuple[int, int]]:
    """CPUs and GPUs of each machine that is there."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [(int(has.get("CPU", 0)), int(has.get("GPU", 0))) for has in alive]


def shares(config: RayConfig, machines: Sequence[tuple[int, int]], *, gpu: bool) -> tuple[int, int]:
    """How many workers, and how many CPUs each.

    Args:
        config: what was asked for.
        machines: CPUs and GPUs of each.
        gpu: whether a worker takes one.

    Raises:
        UsageError: no machine has room for one.
    """

    def room(cpus: int) -> int:
        return sum(min(c // cpus, g) if gpu else c // cpus for c, g in machines)

    most = max([1, *(c for c, g in machines if g or not gpu)])
    wanted = config.workers or (sum(g for _, g in machines) if gpu else None)
    cpus = config.cpus
    if cpus is None and wanted is None:
        cpus = min(_SHARE, most)
    elif cpus is None:
        cpus = next((c for c in range(most, 1, -1) if room(c) >= (wanted or 1)), 1)
    fitting = room(cpus)
    if not fitting:
        raise UsageError(
            "--ray.cpus",
            expected=f"a machine with {cpus} CPUs" + (" and a GPU" if gpu else ""),
            found=", ".join(f"{c} CPUs, {g} GPUs" for c, g in machines) or "none",
            fix="fewer --ray.cpus" + (", or --device cpu" if gpu else ""),
        )
    return min(config.workers or fitting, fitting), cpus


@final
@dataclass(frozen=True)
class Place:
    """Where a command was typed, and where it finds modules: its workers look there, too."""

    folder: str
    path: tuple[str, ...]

    @classmethod
    def here(cls) -> Place:
        """This process's."""
        return cls(str(Path.cwd()), tuple(sys.path))

    def enter(self) -> None:
        """Work as if there, as far as this machine has it."""
        with contextlib.suppress(OSError):
            os.chdir(self.folder)
        sys.path += [folder for folder in self.path if folder not in sys.path]
