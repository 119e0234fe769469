"""steps.html: the curve of success over the steps that are run of each chunk."""

from __future__ import annotations

from pathlib import Path

from policyscope.checks.steps import StepSweep
from policyscope.config import Language
from policyscope.files import write_text
from policyscope.runs.directory import PAGE as REPORT
from policyscope.views.html import fill
from policyscope.views.language import speaker
from policyscope.views.steps.words import cells, headline, how_tested, subject, titles

PAGE = "steps.html"


def write_steps_page(directory: Path, swept: StepSweep, language: Language) -> Path:
    """Write the page beside the runs and return its path.

    Args:
        directory: of all runs.
        swept: what came of them.
        language: of the page.
    """
    say = speaker(language)
    page = fill(
        "steps.html.j2",
        ("report.js", "steps.js"),
        {
            "rows": [
                {
                    "steps": row.steps,
                    "success": row.record.success.to_json(),
                    "reward": row.record.closed_loop.max_reward.to_json(),
                }
                for row in swept.rows
            ],
            "base": swept.base,
            "episodes": [],
        },
        language,
        headline=headline(swept, say),
        subject=subject(swept, say),
        tested=how_tested(say),
        titles=titles(swept, say),
        rows=[(row, cells(row, say)) for row in swept.rows],
        report=REPORT,
    )
    write_text(directory / PAGE, page)
    return directory / PAGE
