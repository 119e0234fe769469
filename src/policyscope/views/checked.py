"""What ``policyscope check`` looked at, what it left out and why, and what it found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from policyscope.checks.inputs import OfflineInputs
from policyscope.config import CheckConfig
from policyscope.errors import errors_in
from policyscope.views.words import counted, findings_text, tail, unit_name


class Looked(NamedTuple):
    """A line of a checklist.

    Attributes:
        done: whether it was looked at.
        what: in a word or two.
        detail: at what, or why not.
    """

    done: bool
    what: str
    detail: str


def checklist(lines: Iterable[Looked]) -> Table:
    """✓ what was looked at, – what was not. All text is shown literally."""
    table = Table.grid(padding=(0, 1))
    for known in lines:
        table.add_row(
            Text("✓", style="green") if known.done else Text("–", style="yellow"),
            Text(known.what, style="bold" if known.done else ""),
            Text(known.detail, style="dim"),
        )
    return table


def checked_text(inputs: OfflineInputs, config: CheckConfig) -> RenderableType:
    """Everything about a check that fits a terminal."""
    found = inputs.findings
    parts: list[RenderableType] = [checklist(_lines(inputs, config))]
    if found:
        parts += [Text(), findings_text(found)]
    kinds = ("error", "warning", "info")
    counts = [(sum(f.severity == kind for f in found), kind) for kind in kinds]
    said = ", ".join(counted(n, kind) if kind != "info" else f"{n} info" for n, kind in counts if n)
    parts.append(Text(f"\n{said or 'no findings'}", style="bold"))
    return Group(*parts)


def _lines(inputs: OfflineInputs, config: CheckConfig) -> Iterator[Looked]:
    facts, schema, known = inputs.source.facts, inputs.alignment.schema, inputs.checkpoint
    robot = facts.robot
    n = len(inputs.episodes)
    frames = sum(facts.lengths[episode] for episode in inputs.episodes)
    cameras = counted(len(robot.cameras), "camera") if robot.cameras else "no camera"
    yield Looked(
        True,
        "dataset",
        f"{robot.name}: {counted(len(facts.lengths))}, {cameras}, {robot.fps:g} Hz; counts, "
        f"statistics, times and gaps of {counted(frames, 'frame')} of {counted(n)}",
    )
    opened = inputs.opened
    if known is None and opened is None:
        yield Looked(False, "policy", "none was named that has files: nothing of one is checked")
        return
    what = f"{opened.spec.type} ({tail(opened.spec.path)}): its answers" if opened else ""
    if known is not None:
        what = f"{known.kind.name} ({tail(known.path)}): settings, processors, statistics, weights"
    yield Looked(True, "policy", what)
    units = ", ".join(dict.fromkeys(map(unit_name, schema.units)))
    fed = len(inputs.alignment.feeds)
    yield Looked(
        True,
        "the two together",
        f"{counted(schema.dim, 'action dim')} in {units}, {counted(fed, 'input')} of the policy",
    )
    if inputs.trained is None:
        yield Looked(False, "split", "the policy does not say which episodes it was trained on")
    else:
        yield Looked(True, "split", "these episodes against those of the training")
    if why := _why_not_asked(inputs, config):
        yield Looked(False, "predictions", why)
        return
    yield Looked(
        True,
        "predictions",
        f"of {counted(inputs.asked, 'frame')}: units and normalization, permuted, flipped, frozen "
        "and saturated dims, late and reversed chunks, skill against policies that do nothing",
    )
    ablated = config.ablate
    detail = "error with pictures, state or instruction of another episode"
    yield Looked(ablated, "inputs", detail if ablated else "--no-ablate")


def _why_not_asked(inputs: OfflineInputs, config: CheckConfig) -> str:
    if not config.frames:
        return "--frames 0 reads files alone"
    if not inputs.asked and errors_in(inputs.findings):
        return "not asked: what is wrong in the files comes first"
    return ""
