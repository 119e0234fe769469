"""The checkpoints of a study: offline number against success, with both intervals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from policyscope.checks.study import OutcomeName, Study
from policyscope.runs.content import RolloutRecord
from policyscope.views.correlated.words import OUTCOMES, signed
from policyscope.views.figure import STYLE, plain, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#222222")
_MARKS = ("o", "s", "^", "D", "v", "P", "X")
_FIRST = ("step1.nmae", "chunk.nmae", "executed.nmae")
_PANELS = 4


def draw_study(study: Study, path: Path) -> None:
    """Draw the study: a row for each outcome, a column for each of a few numbers.

    Raises:
        OutputError: the file can't be written.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = _shown(study)
    with rc_context(STYLE):
        size = (4.3 * len(shown), 3.7 * len(study.trials) + 0.5)
        figure = Figure(figsize=size, dpi=110, layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(len(study.trials), len(shown), squeeze=False)
        for row, outcome in zip(grid, study.trials, strict=True):
            for axes, i in zip(row, shown, strict=True):
                _panel(axes, study, outcome, i)
            row[0].set_ylabel(OUTCOMES[outcome])
        handles, labels = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
        save(figure, path)


def _shown(study: Study) -> list[int]:
    """The errors of three scopes, and what foretells success best beside them."""
    chosen = [study.names.index(name) for name in _FIRST if name in study.names]
    outcome = next(iter(study.trials))
    look = study.look(outcome)
    assert look is not None, "every study looks at all its checkpoints"
    rank = [c.value if c.value is not None else -2.0 for c in look.found.spearman]
    errors = ("mae", "mse")  # further ones would show the same three scopes again
    free = [i for i, name in enumerate(study.names) if not name.endswith(errors)]
    others = sorted(free, key=lambda i: -rank[i])
    return [*chosen, *others][:_PANELS]


def _panel(axes: Axes, study: Study, outcome: OutcomeName, i: int) -> None:
    pairs = study.pairing.pairs
    means = study.trials[outcome].means()
    kinds = sorted({pair.kind for pair in pairs})
    for k, kind in enumerate(kinds):
        at = [j for j, pair in enumerate(pairs) if pair.kind == kind]
        x = np.array([study.numbers[j][i].value for j in at])
        ends = np.array([_ends(study.numbers[j][i].low, study.numbers[j][i].high) for j in at])
        y = means[at]
        own = np.array([_own(pairs[j].rollout.record, outcome) for j in at])
        axes.errorbar(
            x,
            y,
            xerr=np.nan_to_num(np.maximum([x - ends[:, 0], ends[:, 1] - x], 0)),
            yerr=np.nan_to_num(np.maximum([y - own[:, 0], own[:, 1] - y], 0)),
            fmt=_MARKS[k % len(_MARKS)],
            color=_COLOURS[k % len(_COLOURS)],
            ms=5,
            lw=0.9,
            alpha=0.85,
            label=plain(kind),
        )
    look = study.look(outcome)
    assert look is not None, "every study looks at all its checkpoints"
    name, better = study.names[i], study.numbers[0][i].better
    axes.set_title(f"Spearman {signed(look.found.spearman[i])}", fontsize=10)
    axes.set_xlabel(f"{name} ({better} is better)")


def _ends(low: float | None, high: float | None) -> tuple[float, float]:
    return (np.nan if low is None else low, np.nan if high is None else high)


def _own(record: RolloutRecord, outcome: OutcomeName) -> tuple[float, float]:
    """The interval of a run's own outcome."""
    known = record.success if outcome == "success" else record.closed_loop.max_reward
    return _ends(known.ci_low, known.ci_high)
