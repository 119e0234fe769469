"""For people who write a policy: does it keep the contract that the numbers rest on?

The contract is `policyscope.policies.base.Policy`: native chunks of the shape that the spec says,
and an answer to a row that depends on that row alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from policyscope.actions.robots import Robot
from policyscope.actions.spaces import FloatArray
from policyscope.data.frames import FrameBatch
from policyscope.errors import Finding, InputError, first_line
from policyscope.policies.base import Policy, PolicySpec
from policyscope.policies.open import CheckedPolicy, require_keys

_CLOSE = 1e-4  # of the answers' size: matrix kernels add up in another order


def conformance(policy: Policy, robot: Robot, batch: FrameBatch) -> list[Finding]:
    """What of a policy breaks the contract, found by asking about a few frames.

    Args:
        policy: on trial.
        robot: that it is to control.
        batch: some frames, each of them different, with all keys and steps of its spec.

    Returns:
        Errors are what makes numbers wrong; empty if nothing breaks it.
    """
    found = list(_of_spec(policy.spec, robot))
    if found:
        return found
    try:
        return list(_of_answers(policy, robot, batch))
    except InputError as error:
        return [_broken("policy_answer", error.expected, error.found, error.fix)]
    except Exception as error:  # whatever code of the user's raises
        where = f"{type(error).__name__}: {first_line(error)}"
        return [_broken("policy_answer", "an answer", where, "mend what raises it")]


def _broken(code: str, expected: str, found: str, fix: str) -> Finding:
    return Finding(code, "error", f"expected {expected}; found {found}.", fix, forceable=False)


def _of_spec(spec: PolicySpec, robot: Robot) -> Iterator[Finding]:
    if not 1 <= spec.n_action_steps <= spec.chunk_size:
        yield _broken(
            "policy_spec",
            "n_action_steps between 1 and chunk_size",
            f"{spec.n_action_steps} of {spec.chunk_size}",
            "correct the spec",
        )
    steps = list(spec.steps)
    if not steps or steps != sorted(set(steps)) or steps[-1] > 0:
        yield _broken(
            "policy_spec",
            "steps that rise and end in the present or before it, as (-1, 0)",
            str(spec.steps),
            "correct the spec",
        )
    lacking = sorted(spec.keys - robot.features.keys())
    if lacking:
        have = ", ".join(robot.observed)
        fix = "name keys that the robot has"
        yield _broken("policy_spec", f"keys that the robot has ({have})", ", ".join(lacking), fix)


def _of_answers(policy: Policy, robot: Robot, batch: FrameBatch) -> Iterator[Finding]:
    require_keys(policy, robot)
    checked = CheckedPolicy(policy, robot.actions)
    before = [{k: v.copy() for k, v in step.items()} for step in batch.observations]
    answer = checked.predict(batch)
    together = answer.actions.values.copy()
    if not (np.isfinite(answer.model_s) and answer.model_s >= 0):
        yield _broken(
            "policy_answer", "model_s in seconds", str(answer.model_s), "time the model call"
        )
    if any(
        not np.array_equal(step[k], seen[k])
        for step, seen in zip(before, batch.observations, strict=True)
        for k in step
    ):
        yield _broken(
            "policy_writes",
            "observations that are left as they are: others read them",
            "some that predict() changed",
            "copy an array before writing into it",
        )
        return
    if policy.spec.draws == "unseeded":  # whatever it answers, it may be its noise
        yield _unseeded()
        return
    yield from _of_rows(checked, batch, together)


def _of_rows(policy: Policy, batch: FrameBatch, together: FloatArray) -> Iterator[Finding]:
    """Whether the answer to a row is its own, in any company, at any time."""

    def ask(part: FrameBatch) -> FloatArray:
        return policy.predict(part).actions.values

    if not _alike(ask(batch), together):
        yield _broken(
            "policy_memory",
            "the same answer to the same question",
            f"one that is {_apart(ask(batch), together):.3g} apart: something of earlier calls is "
            "left, or noise is drawn anew",
            "keep nothing from call to call; draw noise by episode_index, frame_index and sample",
        )
        return
    ways: dict[str, Callable[[], FloatArray]] = {
        "asked one by one": lambda: np.concatenate(
            [ask(batch[i : i + 1]) for i in range(len(batch))]
        ),
        "asked in the reverse order": lambda: ask(batch[::-1])[::-1],
    }
    for name, way in ways.items():
        other = way()
        if not _alike(other, together):
            yield _broken(
                "policy_batch",
                "an answer to a row that depends on that row alone",
                f"one that is {_apart(other, together):.3g} apart where rows are {name}",
                "normalize and sample each row by itself",
            )
            return
    if len(batch) > 1 and (together == together[:1]).all():
        yield Finding(
            "policy_constant",
            "warning",
            f"expected answers that depend on what is observed; found the same to {len(batch)} "
            "different frames.",
            "look whether it reads its inputs (keys of the spec); nothing to do if it means to",
        )


def _unseeded() -> Finding:
    return Finding(
        "policy_not_reproducible",
        "warning",
        "expected noise by the rule that anybody can follow; found draws='unseeded': another run "
        "gives other numbers.",
        "draw noise with policyscope.testing.noise_seed, and say draws='noise'",
    )


def _alike(a: FloatArray, b: FloatArray) -> bool:
    return a.shape == b.shape and _apart(a, b) <= _CLOSE * max(1e-6, float(np.abs(b).max()))


def _apart(a: FloatArray, b: FloatArray) -> float:
    return float(np.abs(a - b).max()) if a.shape == b.shape else float("inf")
