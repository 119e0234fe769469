"""How many episodes a difference in success rate needs."""

from __future__ import annotations

from policyscope.config.comparing import PlanConfig
from policyscope.metrics.power import Design, Plan
from policyscope.metrics.power import plan as planned


def plan(config: PlanConfig) -> tuple[Plan, ...]:
    """Episodes needed by one run against a rate, by two on the same seeds, by two on their own.

    Raises:
        UsageError: rates, margin or correlation that no answer exists for.
    """
    designs: tuple[Design, ...] = ("one", "paired", "unpaired")
    return tuple(
        planned(
            config.rate_from,
            config.rate_to,
            design=design,
            margin=config.margin,
            correlation=config.correlation,
            power=config.power,
            alpha=config.alpha,
        )
        for design in designs
    )
