"""One simulator, stepped in a worker process; what it gives is read by the contract."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.spaces import FloatArray
from policyscope.config import EnvConfig
from policyscope.errors import Finding, UsageError, first_line
from policyscope.sim import contract
from policyscope.sim.adapter import replaced
from policyscope.sim.contract import ContractError, Layout, Observation
from policyscope.sim.opening import adapter_for, guarded, missing, open_environment

_ENDLESS = 1e9  # steps: some say infinity


@final
@dataclass(frozen=True)
class TaskSpec:
    """A task of a suite; an environment with one task has one.

    Attributes:
        group: the suite, or the environment's type.
        task_id: its number in the suite.
        text: the instruction, possibly empty, possibly another one after each reset.
        max_steps: steps after which an episode ends.
        suite: by which it is opened; None for a single task.
    """

    group: str
    task_id: int
    text: str
    max_steps: int
    suite: str | None = None


@final
@dataclass(frozen=True)
class SimulatorSpec:
    """What a simulator says about itself.

    Attributes:
        name: type and task.
        tasks: its tasks.
        fps: control steps a second.
        fps_known: whether anybody says so; else it is `opening.ASSUMED_HZ`.
        action_low: [A].
        action_high: [A].
        action_names: or None.
        action_units: or None.
        first: of the episode of seed 0, as an example of keys and shapes.
        findings: of the trial, where it had one.
    """

    name: str
    tasks: tuple[TaskSpec, ...]
    fps: float
    fps_known: bool
    action_low: FloatArray
    action_high: FloatArray
    action_names: tuple[str, ...] | None
    action_units: tuple[str, ...] | None
    first: Steps
    findings: tuple[Finding, ...] = ()


@final
@dataclass(frozen=True)
class Steps:
    """What came of a reset (no rewards) or of executed actions.

    Attributes:
        observations: the last ones, oldest first.
        states: [n, S] after each step; after a reset [1, S]. NaN where an environment has begun
            the next episode and does not show the end of this one.
        rewards: [n].
        said: [n] of `contract.SOLVED`, `UNSOLVED`, `UNSAID`; after a reset [1].
        extras: name → [n, …].
        ended: ``terminated``, ``truncated`` or "".
        info: arrays of the last ``info``.
        picture: [H, W, 3] rendered at the end of an episode, or when asked for.
        seconds: that it took.
        pictures: rendered after each step, when asked for; None where that failed.
        all_observations: of each step, when asked for.
        text: the instruction, after a reset.
        undrawn: why there is no picture, or "".
    """

    observations: tuple[Observation, ...]
    states: FloatArray
    rewards: FloatArray
    said: NDArray[np.int8]
    extras: Mapping[str, FloatArray]
    ended: str
    info: Mapping[str, FloatArray]
    picture: NDArray[np.uint8] | None
    seconds: float
    pictures: tuple[NDArray[np.uint8] | None, ...] = ()
    all_observations: tuple[Observation, ...] = field(default=())
    text: str = ""
    undrawn: str = ""


@final
@dataclass
class _OwnReset:
    """What an environment did that resets itself within a step.

    Attributes:
        happened: whether it did.
        picture: of the end of the episode, before the next one began.
        first: raw observation of the next episode.
    """

    happened: bool = False
    picture: NDArray[np.uint8] | None = None
    first: Any = None


@final
@dataclass
class _Course:
    """What came of executed actions so far; fields as in `Steps`."""

    observations: list[Observation] = field(default_factory=list)
    states: list[FloatArray] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    said: list[int] = field(default_factory=list)
    extras: dict[str, list[FloatArray]] = field(default_factory=dict)
    pictures: list[NDArray[np.uint8] | None] = field(default_factory=list)
    ended: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)
    own: _OwnReset = field(default_factory=_OwnReset)


class Simulator:
    """An environment of one task.

    Raises:
        UsageError: no such environment, or its packages are missing.
    """

    def __init__(self, config: EnvConfig, group: str | None = None, task_id: int = 0) -> None:
        self.adapter = adapter_for(config.type, config.task)
        self.config, self.task_id = config, task_id
        self.what = f"environment {config.task or config.type}"
        self._undrawn = ""
        with self._named(), guarded(self.adapter, config):
            opened = open_environment(config, self.adapter, group, task_id)
            self.env, self.group, self.fps = opened.env, opened.group, opened.fps
            self._task = opened.task
            self.low, self.high = contract.bounds(self.env.action_space)
            self._action_type = self.env.action_space.dtype
            self.adapter.opened(self.env)

    @property
    def name(self) -> str:
        """Type and task."""
        config = self.config
        if config.type == "gym":
            return str(config.task)
        return f"{config.type}/{config.task or self._task}"

    @property
    def max_steps(self) -> int:
        """Steps after which an episode ends.

        Raises:
            UsageError: nobody says.
        """
        if self.config.episode_length is not None:
            return self.config.episode_length
        for name in ("_max_episode_steps", "max_episode_steps"):
            steps = self._attribute(name)
            if isinstance(steps, int | float | np.number) and 0 < steps < _ENDLESS:
                return int(steps)
        raise UsageError(
            self.what,
            expected="a number of steps after which an episode ends",
            found="none",
            fix="--env.episode_length 300",
        )

    def text(self, info: Mapping[str, Any] | None = None) -> str:
        """The instruction: as asked for, else the environment's, else what we know of it.

        Args:
            info: of the reset that has just been made, or None.
        """
        if self.config.task_text is not None:
            return self.config.task_text
        for name in ("task_description", "task"):
            value = self._attribute(name)
            if isinstance(value, str) and (name != "task" or not self.adapter.package):
                return value
        return self.adapter.text(self.env, info or {})

    def words(self, name: str) -> tuple[str, ...] | None:
        """``action_names`` or ``action_units``: the environment's, else those that we know."""
        own = contract.words(self._attribute(name), len(self.low))
        return own or getattr(self.adapter, name)

    def reset(
        self,
        seed: int,
        start: FloatArray | None = None,
        *,
        render: bool = False,
        layout: Layout | None = None,
    ) -> Steps:
        """Begin the episode of a seed, or of a recorded state.

        Args:
            seed: of the episode.
            start: recorded state to begin in, or None.
            render: whether to draw the scene.
            layout: that observations must have, or None.

        Raises:
            ContractError: the environment breaks the contract.
        """
        begin = time.perf_counter()
        self._layout, self._undrawn = layout, ""
        self.adapter.before_reset(self.env, seed)
        options = None if start is None else self.adapter.start_options(self.env, start)
        with self._named():
            answer = self.env.reset(seed=seed, options=options)
            raw, info = contract.reset_result(answer)
            observation = self._seen(raw)
            said = contract.said(info)
        picture = self.render() if render else None
        return Steps(
            observations=(observation,),
            states=self.adapter.state(observation)[None],
            rewards=np.zeros(0),
            said=np.array([said], dtype=np.int8),
            extras={name: value[None] for name, value in self.adapter.extras(info).items()},
            ended="",
            info=contract.numbers(info),
            picture=picture,
            seconds=time.perf_counter() - begin,
            text=self.text(info),
            undrawn=self._undrawn,
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

        Raises:
            ContractError: the environment breaks the contract.
        """
        begin = time.perf_counter()
        course = _Course()
        for i, action in enumerate(actions):
            seen = watched or (i >= len(actions) - tail and not final)
            self._step(course, action, seen=seen, watched=watched)
            if course.ended:
                break
        over = bool(course.ended) or final
        return Steps(
            observations=() if over and not watched else tuple(course.observations[-tail:]),
            states=np.stack(course.states),
            rewards=np.asarray(course.rewards),
            said=np.asarray(course.said, dtype=np.int8),
            extras={name: np.stack(values) for name, values in course.extras.items()},
            ended=course.ended,
            info=contract.numbers(course.info),
            picture=self._scene(course.own) if over else None,
            seconds=time.perf_counter() - begin,
            pictures=tuple(course.pictures),
            all_observations=tuple(course.observations) if watched else (),
            undrawn=self._undrawn,
        )

    def _step(self, course: _Course, action: FloatArray, *, seen: bool, watched: bool) -> None:
        """Execute one action and note what came of it."""
        with self._named():
            with self._drawn_if(seen), self._own_reset(seen) as own:
                answer = self.env.step(action.astype(self._action_type))
            raw, reward, terminated, truncated, info = contract.step_result(answer)
            observation = self._last(raw, info, own, seen)
            course.said.append(contract.said(info))
        course.own, course.info = own, info
        course.observations.append(observation)
        state = self.adapter.state(observation)
        unknown = not observation and course.states
        course.states.append(np.full_like(course.states[-1], np.nan) if unknown else state)
        course.rewards.append(reward)
        for name, value in self.adapter.extras(info).items():
            course.extras.setdefault(name, []).append(value)
        if watched:
            course.pictures.append(self._scene(own))
        if terminated or truncated:
            course.ended = "terminated" if terminated else "truncated"

    def _scene(self, own: _OwnReset) -> NDArray[np.uint8] | None:
        """The scene now, or as it was before the environment began the next episode."""
        return own.picture if own.happened else self.render()

    def render(self) -> NDArray[np.uint8] | None:
        """[H, W, 3] the scene as a person would look at it; None, with a note, where that fails.

        No number depends on it, so that it may not end an episode.
        """
        try:
            self.adapter.before_render(self.env)
            return contract.picture(self.env.render())
        except ContractError as error:
            self._undrawn = f"render() gave {error.found}"
        except Exception as error:  # whatever the environment raises
            self._undrawn = f"render() raised {type(error).__name__}: {first_line(error)}"
        return None

    def close(self) -> None:
        """Free what it holds."""
        self.env.close()

    # ── reading ───────────────────────────────────────────────────────

    def _seen(self, raw: Any) -> Observation:
        observation = contract.observation(raw)
        if self._layout is not None:
            contract.require_layout(observation, self._layout)
        return observation

    def _last(self, raw: Any, info: Mapping[str, Any], own: _OwnReset, seen: bool) -> Observation:
        """What a step shows: of this episode, or nothing.

        An environment that has begun the next episode may return that one's first observation;
        gymnasium's own wrappers put the last one of this episode into the info.
        """
        if own.happened:
            for key in ("final_obs", "final_observation"):
                if info.get(key) is not None:
                    return contract.observation(info[key], pictures=seen)
            if contract.same(contract.observation(raw, pictures=seen), own.first):
                return {}
        return self._seen(raw) if seen else contract.observation(raw, pictures=False)

    def _attribute(self, name: str) -> Any:
        """Of the environment or a wrapper; None where there is none, or reading it fails."""
        try:
            return self.env.get_wrapper_attr(name)
        except Exception:  # a property may raise whatever it likes
            return None

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        """Errors of the contract say which environment it is, and imports what to install."""
        try:
            yield
        except ContractError as error:
            raise error.of(self.what) from None
        except ImportError as error:  # many import what they need at their first reset
            raise missing(self.adapter, self.config, error) from error

    def _drawn_if(self, seen: bool) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if seen else self.adapter.unseen(self.env)

    @contextlib.contextmanager
    def _own_reset(self, seen: bool) -> Iterator[_OwnReset]:
        """Notes whether the environment resets itself meanwhile, and what it looked like before.

        Pictures that nobody looks at may be left undrawn: then they are no part of anything.
        """
        inner, own = self.env.unwrapped, _OwnReset()
        begin_next = inner.reset

        def noting(*args: Any, **kwargs: Any) -> Any:
            if not own.happened:
                own.picture = self.render()
            own.happened = True
            if self.adapter.resets_itself:
                return None, {}
            first = begin_next(*args, **kwargs)
            own.first = contract.observation(contract.reset_result(first)[0], pictures=seen)
            return first

        if not hasattr(inner, "__dict__"):
            yield own
            return
        with replaced(inner, "reset", noting):
            yield own
