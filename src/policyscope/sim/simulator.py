"""One simulator, made by lerobot's factory and stepped in a worker process."""

from __future__ import annotations

import contextlib
import io
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.spaces import FloatArray
from policyscope.config import EnvConfig
from policyscope.config.parsing import parse_settings, parse_task_ids
from policyscope.errors import UsageError, first_line
from policyscope.sim.adapter import Adapter, Observation, as_float
from policyscope.sim.aloha import Aloha
from policyscope.sim.libero import Libero
from policyscope.sim.pusht import PushT


@final
@dataclass(frozen=True)
class TaskSpec:
    """A task of a suite; an environment with one task has one.

    Attributes:
        group: the suite, or the environment's type.
        task_id: its number in the suite.
        text: the instruction, possibly empty.
        max_steps: steps after which an episode ends.
    """

    group: str
    task_id: int
    text: str
    max_steps: int


@final
@dataclass(frozen=True)
class SimulatorSpec:
    """What a simulator says about itself.

    Attributes:
        name: type and task.
        tasks: its tasks.
        fps: control steps a second.
        action_low: [A].
        action_high: [A].
        action_names: or None.
        action_units: or None.
        first: of the episode of seed 0, as an example of keys and shapes.
    """

    name: str
    tasks: tuple[TaskSpec, ...]
    fps: float
    action_low: FloatArray
    action_high: FloatArray
    action_names: tuple[str, ...] | None
    action_units: tuple[str, ...] | None
    first: Steps


@final
@dataclass(frozen=True)
class Steps:
    """What came of a reset (no rewards) or of executed actions.

    Attributes:
        observations: the last ones, oldest first.
        states: [n, S] after each step; after a reset [1, S].
        rewards: [n].
        successes: [n].
        extras: name → [n, …].
        ended: ``terminated``, ``truncated`` or "".
        info: arrays of the last ``info``.
        picture: [H, W, 3] rendered at the end of an episode, or when asked for.
        seconds: that it took.
        pictures: rendered after each step, when asked for.
        all_observations: of each step, when asked for.
    """

    observations: tuple[Observation, ...]
    states: FloatArray
    rewards: FloatArray
    successes: NDArray[np.bool_]
    extras: Mapping[str, FloatArray]
    ended: str
    info: Mapping[str, FloatArray]
    picture: NDArray[np.uint8] | None
    seconds: float
    pictures: tuple[NDArray[np.uint8], ...] = ()
    all_observations: tuple[Observation, ...] = field(default=())


class Simulator:
    """An environment of one task.

    Raises:
        UsageError: no such environment, or its packages are missing.
    """

    def __init__(self, config: EnvConfig, group: str | None = None, task_id: int = 0) -> None:
        self.adapter = adapter_for(config.type, config.task)
        self.adapter.prepare()
        self.config, self.group, self.task_id = config, group, task_id
        lerobot_config = environment_config(config, group, task_id)
        self.fps, self._task = float(lerobot_config.fps), str(lerobot_config.task)
        vectors = _made(lerobot_config, self.adapter, config)
        self.group, tasks = next(iter(vectors.items()))
        self.env = next(iter(tasks.values())).envs[0]
        if config.type == "gym":
            self.fps = float(self.env.metadata.get("render_fps") or self.fps)
        self.adapter.opened(self.env)
        self._action_type = self.env.action_space.dtype

    @property
    def max_steps(self) -> int:
        """Steps after which an episode ends."""
        for name in ("_max_episode_steps", "max_episode_steps"):
            try:
                steps = self.env.get_wrapper_attr(name)
            except AttributeError:
                continue
            if steps is not None:
                return int(steps)
        raise UsageError(
            f"environment {self.config.task or self.config.type}",
            expected="a number of steps after which an episode ends",
            found="none",
            fix="--env.episode_length 300",
        )

    @property
    def text(self) -> str:
        """The instruction."""
        if self.config.task_text is not None:
            return self.config.task_text
        for name in ("task_description", "task"):
            with contextlib.suppress(AttributeError):
                value = self.env.get_wrapper_attr(name)
                if isinstance(value, str) and (name != "task" or not self.adapter.package):
                    return value
        return self.adapter.text(self.env)

    def spec(self, tasks: tuple[TaskSpec, ...]) -> SimulatorSpec:
        """What it says about itself, with the example of one observation."""
        space = self.env.action_space
        if len(getattr(space, "shape", None) or ()) != 1:
            raise UsageError(
                f"environment {self.config.task or self.config.type}",
                expected="a one-dimensional Box of actions",
                found=str(space),
                fix="wrap it so that an action is a vector",
            )
        names, units = (
            getattr(self.env.unwrapped, name, None) for name in ("action_names", "action_units")
        )
        return SimulatorSpec(
            name=str(self.config.task)
            if self.config.type == "gym"
            else f"{self.config.type}/{self.config.task or self._task}",
            tasks=tasks,
            fps=self.fps,
            action_low=np.asarray(space.low, dtype=np.float64),
            action_high=np.asarray(space.high, dtype=np.float64),
            action_names=tuple(names) if names else self.adapter.action_names,
            action_units=tuple(units) if units else self.adapter.action_units,
            first=self.reset(0),
        )

    def reset(self, seed: int, start: FloatArray | None = None, *, render: bool = False) -> Steps:
        """Begin the episode of a seed, or of a recorded state."""
        begin = time.perf_counter()
        self.adapter.before_reset(self.env, seed)
        options = None if start is None else self.adapter.start_options(self.env, start)
        raw, info = self.env.reset(seed=seed, options=options)
        observation = self.adapter.observation(raw)
        picture = self.render() if render else None
        return Steps(
            observations=(observation,),
            states=self.adapter.state(observation)[None],
            rewards=np.zeros(0),
            successes=np.zeros(0, dtype=bool),
            extras={name: value[None] for name, value in self.adapter.extras(info).items()},
            ended="",
            info=_arrays(info),
            picture=picture,
            seconds=time.perf_counter() - begin,
        )

    def act(
        self, actions: FloatArray, *, tail: int = 1, final: bool = False, watched: bool = False
    ) -> Steps:
        """Execute actions until they or the episode end.

        Args:
            actions: [n, A] in native units.
            tail: how many of the last observations the policy will read.
            final: the time is up after these actions.
            watched: keep every observation and render every step.
        """
        begin = time.perf_counter()
        observations: list[Observation] = []
        states, rewards, successes = [], [], []
        extras: dict[str, list[FloatArray]] = {}
        pictures, ended, info = [], "", {}
        for i, action in enumerate(actions):
            seen = watched or (i >= len(actions) - tail and not final)
            with contextlib.nullcontext() if seen else self.adapter.unseen(self.env):
                raw, reward, terminated, truncated, info = self.env.step(
                    action.astype(self._action_type)
                )
            observation = self.adapter.observation(raw)
            observations.append(observation)
            states.append(self.adapter.state(observation))
            rewards.append(float(reward))
            successes.append(bool(info.get("is_success", False)))
            for name, value in self.adapter.extras(info).items():
                extras.setdefault(name, []).append(value)
            if watched:
                pictures.append(self.render())
            if terminated or truncated:
                ended = "terminated" if terminated else "truncated"
                break
        over = bool(ended) or final
        return Steps(
            observations=() if over and not watched else tuple(observations[-tail:]),
            states=np.stack(states),
            rewards=np.asarray(rewards),
            successes=np.asarray(successes),
            extras={name: np.stack(values) for name, values in extras.items()},
            ended=ended,
            info=_arrays(info),
            picture=self.render() if over else None,
            seconds=time.perf_counter() - begin,
            pictures=tuple(pictures),
            all_observations=tuple(observations) if watched else (),
        )

    def render(self) -> NDArray[np.uint8]:
        """[H, W, 3] the scene as a person would look at it."""
        self.adapter.before_render(self.env)
        picture = np.asarray(self.env.render())
        if picture.ndim != 3 or picture.dtype != np.uint8:
            raise UsageError(
                f"environment {self.config.task or self.config.type}",
                expected="render() to give [H, W, 3] uint8",
                found=f"{picture.dtype} of shape {picture.shape}",
                fix="make it with render_mode rgb_array",
            )
        return np.ascontiguousarray(picture)

    def close(self) -> None:
        """Free what it holds."""
        self.env.close()


def list_tasks(config: EnvConfig) -> tuple[tuple[str | None, int], ...]:
    """(suite, task number) of every task that the config names; (None, 0) for a single task."""
    adapter = adapter_for(config.type, config.task)
    chosen = parse_task_ids(config.task_ids)
    if config.type != "libero":
        if chosen is not None and chosen != (0,):
            raise UsageError(
                "--env.task_ids",
                expected="an environment with several tasks (libero)",
                found=config.type,
                fix="leave --env.task_ids out",
            )
        return ((None, 0),)
    adapter.prepare()
    with _importing(adapter, config), contextlib.redirect_stdout(io.StringIO()):
        from libero.libero import benchmark

        suites = benchmark.get_benchmark_dict()
        wanted = [s.strip() for s in (config.task or "libero_10").split(",") if s.strip()]
        listed: list[tuple[str | None, int]] = []
        for name in wanted:
            if name not in suites:
                raise UsageError(
                    "--env.task",
                    expected=f"suites of LIBERO ({', '.join(sorted(suites))})",
                    found=name,
                    fix="--env.task libero_spatial",
                )
            n = int(suites[name]().n_tasks)
            outside = [i for i in chosen or () if i >= n]
            if outside:
                raise UsageError(
                    "--env.task_ids",
                    expected=f"numbers from 0 to {n - 1} in {name}",
                    found=str(outside[0]),
                    fix="--env.task_ids 0",
                )
            listed += [(name, i) for i in (range(n) if chosen is None else chosen)]
    return tuple(listed)


def environment_config(config: EnvConfig, group: str | None = None, task_id: int = 0) -> Any:
    """lerobot's configuration object of an environment.

    Raises:
        UsageError: lerobot knows no such type, or not such a field.
    """
    from lerobot.envs.configs import EnvConfig as LerobotEnvConfig

    from policyscope.sim.gym import GymEnv

    if config.type == "gym":
        return GymEnv(
            task=config.task,
            settings=parse_settings(config.settings),
            episode_length=config.episode_length,
        )
    known = LerobotEnvConfig.get_known_choices()
    if config.type not in known:
        raise UsageError(
            "--env.type",
            expected=f"one of {', '.join(sorted(known))}, or gym",
            found=repr(config.type),
            fix="--env.type gym --env.task PACKAGE:ENVIRONMENT_ID for a gymnasium environment",
        )
    kind = LerobotEnvConfig.get_choice_class(config.type)
    values: dict[str, Any] = parse_settings(config.settings)
    if config.task is not None:
        values["task"] = group or config.task
    elif group is not None:
        values["task"] = group
    if group is not None:
        values["task_ids"] = [task_id]
    if config.episode_length is not None:
        values["episode_length"] = config.episode_length
    names = {f.name for f in fields(kind)}
    unknown = sorted(values.keys() - names)
    if unknown:
        raise UsageError(
            "--env.settings",
            expected=f"fields of lerobot's {kind.__name__} ({', '.join(sorted(names))})",
            found=unknown[0],
            fix="leave it out",
        )
    return kind(**values)


def _made(lerobot_config: Any, adapter: Adapter, config: EnvConfig) -> Any:
    from lerobot.envs.factory import make_env

    with (
        _importing(adapter, config),
        contextlib.redirect_stdout(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        return make_env(lerobot_config, n_envs=1)


@contextlib.contextmanager
def _importing(adapter: Adapter, config: EnvConfig) -> Any:
    try:
        yield
    except UsageError:
        raise
    except ImportError as error:
        raise UsageError(
            f"--env.type {config.type}",
            expected=f"the package {adapter.package or config.task}",
            found=first_line(error),
            fix=f"pip install 'policyscope[{adapter.extra}]'"
            if adapter.extra
            else "install the package that brings this environment",
        ) from error
    except Exception as error:  # gymnasium, MuJoCo and the simulators raise families of their own
        raise UsageError(
            f"--env.type {config.type}"
            + (f" --env.task {config.task}" if config.task is not None else ""),
            expected="an environment that opens",
            found=f"{type(error).__name__}: {first_line(error)}",
            fix="check --env.task and --env.settings; off-screen GL: try MUJOCO_GL=osmesa or egl"
            if adapter.offscreen
            else "check --env.task and --env.settings",
        ) from error


def _arrays(info: Mapping[str, Any]) -> dict[str, FloatArray]:
    """The numbers of an ``info`` dict, as flat arrays."""
    kept = {}
    for name, value in info.items():
        if isinstance(value, np.ndarray | float | int | np.generic | bool):
            with contextlib.suppress(TypeError, ValueError):
                kept[name] = as_float(value)
    return kept


def stack(rows: Sequence[Observation]) -> Observation:
    """Raw observations of several simulators as one batch."""
    first = rows[0]
    return {
        key: stack([row[key] for row in rows])
        if isinstance(value, Mapping)
        else np.stack([np.asarray(row[key]) for row in rows])
        for key, value in first.items()
    }


_KNOWN: dict[str, type[Adapter]] = {"pusht": PushT, "aloha": Aloha, "libero": Libero}


def adapter_for(env_type: str, task: str | None) -> Adapter:
    """The adapter of an environment type; that of a known simulator for its gymnasium id, too."""
    for name, known in _KNOWN.items():
        if env_type == name or (env_type == "gym" and str(task).startswith(f"gym_{name}/")):
            return known()
    return Adapter()
