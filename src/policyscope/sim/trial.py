"""A simulator on trial: does it keep the contract that the numbers rest on?

`check_env` asks for it; `rollout` begins with it for every simulator that nobody here has tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal, final

import numpy as np

from policyscope.actions.spaces import FloatArray
from policyscope.config.parsing import parse_settings
from policyscope.errors import Finding, Severity, UsageError, first_line
from policyscope.sim import contract
from policyscope.sim.contract import ContractError
from policyscope.sim.simulator import Simulator, Steps

_FIRST_STEPS, _LEAST_STEPS = 3, 4


@final
@dataclass
class Trial:
    """What a trial showed.

    Attributes:
        first: what came of the first reset; None where nothing did.
        findings: in the order in which they were made.
    """

    first: Steps | None = None
    findings: list[Finding] = field(default_factory=list)

    def note(
        self,
        code: str,
        expected: str,
        found: str,
        fix: str,
        *,
        severity: Severity = "error",
        forceable: bool = True,
    ) -> None:
        """Add a finding."""
        message = " ".join(f"expected {expected}; found {found}.".split())
        self.findings.append(Finding(f"env_{code}", severity, message, fix, forceable))


class _Stop(Exception):  # noqa: N818  (not an error: the trial is over)
    pass


def try_out(
    simulator: Simulator, *, seed: int = 0, n_steps: int = 12, patience_s: float = 1e6
) -> Trial:
    """Run a simulator for a few steps and say what breaks the contract.

    Args:
        simulator: just opened.
        seed: of the episode that is looked at, and run several times.
        n_steps: steps of it.
        patience_s: fewer steps where so many would take longer.

    Returns:
        What it showed: errors are what a run is refused for.
    """
    trial = Trial()
    with suppress(_Stop):
        _try_out(trial, simulator, seed, n_steps, patience_s)
    return trial


def _try_out(
    trial: Trial, simulator: Simulator, seed: int, n_steps: int, patience_s: float
) -> None:
    draw = np.random.default_rng(0)
    low = np.where(np.isfinite(simulator.low), simulator.low, -1.0)
    high = np.where(np.isfinite(simulator.high), simulator.high, 1.0)
    actions = draw.uniform(low, high, (n_steps, len(low)))
    with _theirs(trial, "reset", f"reset(seed={seed}, options=None)"):
        first = simulator.reset(seed)
    trial.first = first
    layout = contract.layout(first.observations[0])
    with _theirs(trial, "step", "step(action)"):
        few = simulator.act(actions[:_FIRST_STEPS], tail=_FIRST_STEPS)
    affordable = int(patience_s / max(few.seconds / len(few.rewards), 1e-6) / 4)
    actions = actions[: max(_LEAST_STEPS, min(n_steps, affordable))]
    with _theirs(trial, "step", "step(action)"):
        first = simulator.reset(seed, layout=layout)
        whole = simulator.act(actions, tail=len(actions))
    _read(trial, simulator, first, whole)
    _came_back(trial, simulator, first)
    simulator.render()
    if simulator._undrawn:
        trial.note(
            "render",
            "render() to return [H, W, 3] uint8",
            simulator._undrawn,
            "render_mode rgb_array; without it there are no videos",
            severity="warning",
        )
    with _theirs(trial, "reset", f"reset(seed={seed + 1}, options=None)"):
        simulator.reset(seed + 1, layout=layout)
        simulator.act(draw.uniform(low, high, (_FIRST_STEPS, len(low))), tail=_FIRST_STEPS)
        again = simulator.reset(seed, layout=layout)
        repeated = simulator.act(actions, tail=len(actions))
        simulator.reset(seed, layout=layout)
        blind = simulator.act(actions, tail=1)
    _repeats(trial, (first, whole), (again, repeated), blind)


@contextmanager
def _theirs(trial: Trial, code: Literal["reset", "step"], what: str) -> Iterator[None]:
    """Around strangers' code: whatever it raises is a finding, and the end of the trial."""
    try:
        yield
    except ContractError as error:
        trial.note(error.code, error.expected, error.found, error.fix, forceable=False)
        raise _Stop from None
    except Exception as error:
        if isinstance(error, UsageError):
            raise
        found = f"{type(error).__name__}: {first_line(error)}"
        fix = "gymnasium's interface, version 0.26 or newer; mend what it raises"
        trial.note(code, f"{what} to return", found, fix, forceable=False)
        raise _Stop from None


def _read(trial: Trial, simulator: Simulator, first: Steps, whole: Steps) -> None:
    """What rewards, success and rate say."""
    if not np.isfinite(whole.rewards).all():
        trial.note("reward", "finite rewards", "NaN or inf", "return a finite float")
    if (np.append(first.said, whole.said) == contract.UNSAID).all():
        trial.note(
            "success",
            'info["is_success"] (or ["success"]) at each step',
            f"neither in {len(whole.said)} steps",
            'put info["is_success"] = solved into what step returns; a run whose episodes never '
            "say it reports rewards, and success as unknown",
            severity="warning",
        )
    if simulator.fps is None:
        trial.note(
            "rate",
            'metadata["render_fps"], the control rate',
            "none",
            "--env.control_hz 20; without it nothing is given in seconds",
            severity="warning",
        )


def _came_back(trial: Trial, simulator: Simulator, first: Steps) -> None:
    """Pictures have the size that was asked for."""
    asked = parse_settings(simulator.config.settings)
    pixels = first.observations[0].get("pixels", {})
    for name, array in (pixels if isinstance(pixels, dict) else {"pixels": pixels}).items():
        for axis, setting in enumerate(("observation_height", "observation_width")):
            wanted = asked.get(setting)
            if wanted is not None and array.shape[axis] != wanted:
                trial.note(
                    "setting",
                    f"{setting} {wanted} in {name}",
                    str(array.shape[axis]),
                    simulator.adapter.without_effect(setting),
                    forceable=False,
                )


def _repeats(
    trial: Trial, once: tuple[Steps, Steps], twice: tuple[Steps, Steps], blind: Steps
) -> None:
    """The same seed and actions give the same episode, whoever looks."""
    if not all(_same(a, b) for a, b in zip(once, twice, strict=True)):
        trial.note(
            "seed",
            "the same episode from the same seed and actions, whatever ran before",
            "another one",
            "draw everything from self.np_random, and reset every part of the state",
        )
        return
    seen = twice[1]
    alike = np.array_equal(blind.states, seen.states, equal_nan=True) and (
        not (blind.observations and seen.observations)
        or contract.same(blind.observations[-1], seen.observations[-1])
    )
    if not alike:
        trial.note(
            "unseen",
            "the same states and last observation where pictures in between are not drawn",
            "others",
            "pictures_wanted = False may change nothing but the pictures of observations",
        )


def _same(a: Steps, b: Steps) -> bool:
    close: Callable[[FloatArray, FloatArray], bool] = lambda x, y: (  # noqa: E731
        x.shape == y.shape and bool(np.allclose(x, y, rtol=1e-9, atol=1e-9, equal_nan=True))
    )
    return (
        np.array_equal(a.states, b.states, equal_nan=True)
        and close(a.rewards, b.rewards)
        and np.array_equal(a.said, b.said)
        and a.text == b.text
        and all(contract.same(x, y) for x, y in zip(a.observations, b.observations, strict=True))
    )
