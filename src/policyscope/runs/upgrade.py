"""Records of earlier versions, as this one would have written them."""

from __future__ import annotations

from typing import Any

from policyscope.runs.content import SCHEMA_VERSION
from policyscope.runs.plans import upgraded_plan
from policyscope.runs.rows import EpisodeRow, EpisodeTable


def upgraded(content: dict[str, Any]) -> dict[str, Any]:
    """A record of version 1 as one of version 2; any other as it is.

    Version 1 (policyscope 0.1) listed every episode of an offline run in the record, and every
    episode of a plan.

    Raises:
        ValueError: a table of it is not what version 1 wrote.
    """
    if content.get("schema_version") != 1:
        return content
    newer = {**content, "schema_version": SCHEMA_VERSION}
    if isinstance(rows := content.get("by_episode"), list):
        listed = [EpisodeRow.model_validate(row) for row in rows]
        newer["by_episode"] = EpisodeTable.of(listed, file=None)
    if isinstance(plan := content.get("plan"), dict):
        newer["plan"] = upgraded_plan(plan)
    if isinstance(known := content.get("closed_loop"), dict):
        newer["closed_loop"] = _closed_loop(known, content.get("success"))
    return newer


def _closed_loop(known: dict[str, Any], success: Any) -> dict[str, Any]:
    """Version 1 counted the episodes that did not succeed, and left its power unsaid."""
    newer = dict(known)
    if isinstance(times := known.get("time_to_success"), dict) and isinstance(success, dict):
        newer["time_to_success"] = {**times, "n": success.get("n"), "n_success": success.get("k")}
    if isinstance(rates := known.get("detectable"), dict):
        newer["detectable"] = {**rates, "power": 0.8}
    return newer
