"""Which episodes of a run are shown."""

from __future__ import annotations

from collections.abc import Sequence

from policyscope.config.parsing import parse_episodes
from policyscope.errors import UsageError
from policyscope.runs.rows import EpisodeRow, RolloutRow, ranked


def chosen_episodes(rows: Sequence[EpisodeRow], wanted: str | None) -> dict[int, str]:
    """Episodes whose pictures a page plays → ``worst``, ``median``, ``best``, or nothing.

    Args:
        rows: errors of each episode over whole chunks.
        wanted: ``--report.episodes``; None chooses the worst, the median and the best.

    Raises:
        UsageError: it names episodes that the run has not.
    """
    order = [row.episode_index for row in ranked(rows)]
    roles = {order[0]: "best", order[len(order) // 2]: "median", order[-1]: "worst"}
    if wanted is None:
        return dict(reversed(roles.items()))
    return {e: roles.get(e, "") for e in named_episodes(wanted, order)}


def named_episodes(wanted: str, known: Sequence[int]) -> tuple[int, ...]:
    """The episodes that ``--report.episodes`` names.

    Raises:
        UsageError: not a list of episodes, or one that the run has not.
    """
    named = parse_episodes(wanted, max(known) + 1, "--report.episodes")
    strange = [e for e in named if e not in known]
    if strange:
        raise UsageError(
            "--report.episodes",
            expected="episodes of this run",
            found=f"{strange[0]}, which was not evaluated",
            fix=f"choose among {', '.join(map(str, sorted(known)[:12]))}, ...",
        )
    return named


def choose(rows: Sequence[RolloutRow], wanted: str) -> list[int]:
    """Which episodes to show.

    Args:
        rows: of the episodes, in order.
        wanted: ``--video``: chosen takes those that have a role.
    """
    ran = _ran(rows)
    if wanted == "all":
        return [row.episode for row in ran]
    if wanted != "chosen":
        return [row.episode for row in ran[: 0 if wanted == "none" else int(wanted)]]
    return sorted(roles(rows))


def roles(rows: Sequence[RolloutRow]) -> dict[int, str]:
    """Episodes to look at first → ``first_success``, ``first_failure`` or ``worst``."""
    ran = _ran(rows)
    found: dict[int, str] = {}
    for outcome, role in ((True, "first_success"), (False, "first_failure")):
        found |= dict([(row.episode, role) for row in ran if row.success is outcome][:1])
    if ran:
        worst = min(ran, key=lambda row: (bool(row.success), row.max_reward or 0.0, row.episode))
        found.setdefault(worst.episode, "worst")
    return found


def _ran(rows: Sequence[RolloutRow]) -> list[RolloutRow]:
    return [row for row in rows if row.ended != "fault" and row.steps]
