"""For people who write an environment: does it keep the contract that the numbers rest on?"""

from __future__ import annotations

from policyscope.config import EnvConfig
from policyscope.errors import Finding
from policyscope.sim.pool import Fault, ProcessPool
from policyscope.sim.worker import Close, TryOut

_CLOSE_S = 10.0


def check_environment(config: EnvConfig, *, seed: int = 0, n_steps: int = 12) -> list[Finding]:
    """Run an environment for a few steps and say what breaks the contract.

    It runs as in a rollout: in a process of its own, which may die or hang.

    Args:
        config: the environment; the first of its tasks is looked at.
        seed: of the episode that is looked at.
        n_steps: steps of it.

    Returns:
        What breaks the contract (see `policyscope.sim.contract`); empty if nothing does. Errors
        are what a rollout is refused for.

    Raises:
        UsageError: it can't be opened.
    """
    with ProcessPool(config, 1) as pool:
        findings = list(pool.require(TryOut(seed, n_steps), config.timeout_s))
        answer = pool.ask(pool.workers[0], Close(), min(_CLOSE_S, config.timeout_s))
        if isinstance(answer, Fault):
            findings.append(
                Finding(
                    "env_close",
                    "warning",
                    f"expected close() to return; found that it {answer.kind} ({answer.detail}).",
                    "nothing depends on it: its process is ended in any case",
                )
            )
    return findings
