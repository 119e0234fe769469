"""Render a stored run again, without the policy and without the dataset."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import final

from policyscope.errors import OutputError
from policyscope.run.directory import RunDirectory
from policyscope.run.record import read_record
from policyscope.views.page import write_page
from policyscope.views.picture import draw_picture
from policyscope.views.rollout_page import write_rollout_page
from policyscope.views.rollout_picture import draw_rollout


@final
@dataclass(frozen=True)
class ReportConfig:
    """What to render."""

    run: str
    """Run directory."""


def render(config: ReportConfig) -> Path:
    """Draw ``report.png`` and ``report.html`` of a finished run.

    Returns:
        The path of the page.

    Raises:
        OutputError: no finished run there.
    """
    path = Path(config.run).expanduser()
    record = read_record(path)
    if record["status"] != "complete":
        raise OutputError(
            str(path),
            expected="a complete run",
            found=f"a {record['status']} one",
            fix="finish it with --resume"
            if record["status"] == "partial"
            else "mend what its findings name, then evaluate again",
        )
    directory = RunDirectory(path)
    if record["kind"] == "rollout":
        draw_rollout(directory, record)
        return write_rollout_page(directory, record)
    draw_picture(directory, record)
    return write_page(directory, record)
