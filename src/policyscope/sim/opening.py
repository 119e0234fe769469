"""From flags to environments: lerobot's configurations and factory, and what they pass over."""

from __future__ import annotations

import contextlib
import difflib
import io
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, final

from policyscope.config import EnvConfig
from policyscope.config.parsing import parse_settings, parse_task_ids
from policyscope.errors import InputError, UsageError, first_line
from policyscope.sim.adapter import Adapter
from policyscope.sim.aloha import Aloha
from policyscope.sim.contract import rate
from policyscope.sim.libero import Libero, LiberoPlus
from policyscope.sim.others import (
    IsaacLabArena,
    Manipulator,
    MetaWorld,
    RoboCasa,
    RoboMME,
    RoboTwin,
    VLABench,
)
from policyscope.sim.pusht import PushT

ASSUMED_HZ = 30.0
"""What pictures are played at where nobody says how fast an environment is controlled."""

_KNOWN: Mapping[str, type[Adapter]] = {
    "aloha": Aloha,
    "gym_manipulator": Manipulator,
    "isaaclab_arena": IsaacLabArena,
    "libero": Libero,
    "libero_plus": LiberoPlus,
    "metaworld": MetaWorld,
    "pusht": PushT,
    "robocasa": RoboCasa,
    "robomme": RoboMME,
    "robotwin": RoboTwin,
    "vlabench": VLABench,
}


@final
@dataclass(frozen=True)
class Opened:
    """An environment of one task.

    Attributes:
        env: it.
        group: its suite, or its type.
        task: as lerobot's configuration has it.
        fps: control steps a second; None where nobody says.
    """

    env: Any
    group: str
    task: str
    fps: float | None


def adapter_for(env_type: str, task: str | None) -> Adapter:
    """The adapter of an environment type; that of a known simulator for its gymnasium id, too."""
    for name, known in _KNOWN.items():
        if env_type == name or (env_type == "gym" and str(task).startswith(f"gym_{name}/")):
            return known()
    return Adapter()


def list_tasks(config: EnvConfig, adapter: Adapter) -> tuple[tuple[str | None, int], ...]:
    """(suite, task number) of every task that the config names; (None, 0) for a single task.

    Raises:
        UsageError: there is no such task.
    """
    adapter.prepare()
    chosen = parse_task_ids(config.task_ids)
    with guarded(adapter, config), _silent():
        known = adapter.listed(config)
    if known is None:
        if config.type == "gym":
            known = (("gym", 0),)
        else:
            made = _made(config, adapter, environment_config(config))
            known = tuple((group, i) for group, tasks in made.items() for i in tasks)
            _close_all(made, None)
    single = known == ((config.type, 0),)
    if chosen is None or (single and chosen == (0,)):
        return ((None, 0),) if single else known
    numbers = {i for _, i in known}
    outside = [i for i in chosen if i not in numbers]
    if single or outside:
        raise UsageError(
            "--env.task_ids",
            expected="an environment with several tasks"
            if single
            else f"numbers from 0 to {max(numbers)}",
            found=config.type if single else str(outside[0]),
            fix="leave --env.task_ids out" if single else "--env.task_ids 0",
        )
    return tuple((group, i) for group, i in known if i in chosen)


def open_environment(
    config: EnvConfig, adapter: Adapter, group: str | None, task_id: int
) -> Opened:
    """Make the environment of one task.

    Raises:
        UsageError: it can't be opened, or passes over what was asked for.
    """
    adapter.prepare()
    lerobot_config = environment_config(config, group, task_id)
    made = _made(config, adapter, lerobot_config)
    suite = str(group if group in made else next(iter(made)))
    number = task_id if task_id in made[suite] else next(iter(made[suite]))
    env = made[suite][number].envs[0]
    _close_all(made, env)
    return Opened(env, suite, str(lerobot_config.task), _rate(config, lerobot_config, env))


def environment_config(config: EnvConfig, group: str | None = None, task_id: int = 0) -> Any:
    """lerobot's configuration object of an environment.

    Raises:
        UsageError: lerobot knows no such type, or not such a field.
    """
    from policyscope.sim.gym import GymEnv

    settings = parse_settings(config.settings)
    if config.type == "gym":
        if not config.task:
            raise UsageError(
                "--env.task",
                expected="the gymnasium id of an environment",
                found="none",
                fix="--env.task my_package:MyEnv-v0",
            )
        length = config.episode_length
        return GymEnv(task=config.task, settings=settings, episode_length=length)
    kind = _kind(config.type)
    names = {f.name for f in fields(kind)}
    unknown = sorted(settings.keys() - names)
    if unknown:
        near = difflib.get_close_matches(unknown[0], names, n=1)
        raise UsageError(
            "--env.settings",
            expected=f"fields of lerobot's {kind.__name__} ({', '.join(sorted(names))})",
            found=unknown[0],
            fix=near[0] if near else "leave it out",
        )
    values: dict[str, Any] = dict(settings)
    if config.task is not None:
        values["task"] = config.task
    if group is not None and issubclass(_KNOWN.get(config.type, Adapter), Libero):
        values |= {"task": group, "task_ids": [task_id]}
    elif "task_ids" in names and config.task_ids is not None:
        values["task_ids"] = list(parse_task_ids(config.task_ids) or ())
    if config.episode_length is not None and "episode_length" in names:
        values["episode_length"] = config.episode_length
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise UsageError(
            "--env.settings",
            expected=f"values that lerobot's {kind.__name__} takes",
            found=first_line(error),
            fix="another value, or leave it out",
        ) from error


def _kind(env_type: str) -> Any:
    """lerobot's configuration class of a type; packages named lerobot_env_* may bring more."""
    from lerobot.envs.configs import EnvConfig as LerobotEnvConfig
    from lerobot.utils.import_utils import register_third_party_plugins

    known = LerobotEnvConfig.get_known_choices()
    if env_type not in known:
        with _silent():
            register_third_party_plugins()
        known = LerobotEnvConfig.get_known_choices()
    if env_type in known:
        return LerobotEnvConfig.get_choice_class(env_type)
    names = sorted([*known, "gym"])
    near = difflib.get_close_matches(env_type.lower(), names, n=1)
    raise UsageError(
        "--env.type",
        expected=f"one of {', '.join(names)}",
        found=repr(env_type),
        fix=f"--env.type {near[0]}"
        if near
        else "--env.type gym --env.task PACKAGE:ENVIRONMENT_ID for a gymnasium environment",
    )


def _made(config: EnvConfig, adapter: Adapter, lerobot_config: Any) -> Any:
    """What lerobot's factory makes: suite → task number → vector environment of one.

    Raises:
        UsageError: nothing, or it did not look at a setting.
    """
    from lerobot.envs.factory import make_env

    with guarded(adapter, config), _silent(), _reads(type(lerobot_config)) as read:
        made = make_env(lerobot_config, n_envs=1)
        lerobot_config.get_env_processors()
    for setting in parse_settings(config.settings) if config.type != "gym" else ():
        if setting not in read:
            raise UsageError(
                f"--env.settings of {config.type}",
                expected="settings that change the simulator",
                found=f"{setting}, which lerobot passes over",
                fix=adapter.without_effect(setting),
            )
    return made


@contextlib.contextmanager
def _reads(kind: type) -> Iterator[set[str]]:
    """The names of the attributes of a class's objects that are read meanwhile.

    lerobot's configurations have fields that describe an environment and are never passed on to
    it; which they are differs from type to type. What nobody reads changes nothing.
    """
    seen: set[str] = set()

    def noting(self: Any, name: str) -> Any:
        seen.add(name)
        return object.__getattribute__(self, name)

    before = vars(kind).get("__getattribute__")
    setattr(kind, "__getattribute__", noting)  # noqa: B010
    try:
        yield seen
    finally:
        if before is None:
            del kind.__getattribute__
        else:
            setattr(kind, "__getattribute__", before)  # noqa: B010


def _close_all(made: Any, kept: Any) -> None:
    for tasks in made.values():
        for vector in tasks.values():
            for env in getattr(vector, "envs", ()):
                if env is not kept:
                    with contextlib.suppress(Exception):
                        env.close()


def _rate(config: EnvConfig, lerobot_config: Any, env: Any) -> float | None:
    """Control steps a second, by whoever knows: lerobot's own simulators, metadata, the user."""
    kind = type(lerobot_config)
    own = "fps" in vars(kind).get("__annotations__", {})  # else lerobot's default for all types
    if config.type != "gym" and (own or config.type in _KNOWN):
        known: float | None = float(lerobot_config.fps)
    else:
        known = rate(getattr(env, "metadata", None))
    asked = config.control_hz
    if asked is not None and known is not None and asked != known:
        raise UsageError(
            "--env.control_hz",
            expected=f"{known!r}, as the environment says",
            found=repr(asked),
            fix="leave it out",
        )
    return known if known is not None else asked


def missing(adapter: Adapter, config: EnvConfig, error: ImportError) -> UsageError:
    """What to say where a simulator's packages are not there."""
    return UsageError(
        f"--env.type {config.type}",
        expected=f"the package {adapter.package or config.task}",
        found=first_line(error).rstrip("."),
        fix=adapter.install,
    )


@contextlib.contextmanager
def guarded(adapter: Adapter, config: EnvConfig) -> Iterator[None]:
    """Within it, whatever strangers' code raises becomes one line.

    Raises:
        UsageError: in place of all else.
    """
    asked = f"--env.type {config.type}"
    try:
        yield
    except InputError:
        raise
    except ImportError as error:
        raise missing(adapter, config, error) from error
    except Exception as error:  # gymnasium, MuJoCo and the simulators raise families of their own
        raise UsageError(
            asked + (f" --env.task {config.task}" if config.task is not None else ""),
            expected="an environment that opens",
            found=f"{type(error).__name__}: {first_line(error).rstrip('.')}",
            fix=adapter.tasks
            + ("; off-screen GL: try MUJOCO_GL=osmesa or egl" if adapter.offscreen else ""),
        ) from error


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
