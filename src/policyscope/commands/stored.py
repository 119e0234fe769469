"""What the command line prints of what is stored, or was made elsewhere."""

from __future__ import annotations

import os

from policyscope.commands.streams import console, quiet
from policyscope.config import (
    CompareConfig,
    CorrelateConfig,
    ExecuteConfig,
    ImportConfig,
    Language,
    PlanConfig,
    ReportConfig,
    SchemaConfig,
)


def is_sweep(run: str) -> bool:
    """Whether a directory holds a sweep, not a run."""
    from policyscope.runs.carried import brought
    from policyscope.runs.sweep import SWEEP

    return os.path.lexists(brought(run) / SWEEP)


def sweep(run: str, lang: Language) -> int:
    """A sweep, drawn again."""
    from policyscope.commands.report import render_sweep
    from policyscope.runs.carried import place, shown
    from policyscope.runs.sweep import SWEEP
    from policyscope.views.sweep.table import sweep_table

    page, record = render_sweep(place(run), lang)  # `is_sweep` brought it
    out = console()
    out.print(sweep_table(record))
    out.print(f"{shown(page)}, beside {SWEEP}", markup=False)
    return 0


def take_in(config: ImportConfig) -> int:
    """A run made elsewhere."""
    quiet()
    from policyscope.commands.importing import import_run
    from policyscope.commands.report import render
    from policyscope.runs.carried import shown
    from policyscope.views.language import speaker
    from policyscope.views.rollout.table import rollout_table

    run = import_run(config)
    page = render(ReportConfig(str(run.directory), lang=config.lang))
    out = console()
    out.print(rollout_table(run.record, speaker(config.lang)))
    out.print(f"{shown(page)}, beside report.png, run.json, eval_info.json", markup=False)
    return 0


def correlate(config: CorrelateConfig) -> int:
    """What offline numbers foretell."""
    from policyscope.commands.correlate import correlate as correlated
    from policyscope.views.correlated.files import study_json, study_markdown, study_text
    from policyscope.views.language import speaker

    study, say = correlated(config), speaker(config.lang)
    if config.format == "json":
        print(study_json(study))
    elif config.format == "markdown":
        print(study_markdown(study, say), end="")
    else:
        console().print(study_text(study, say))
    return 0


def compare(config: CompareConfig) -> int:
    """Two runs or more, against the first."""
    from policyscope.commands.compare import compare as compared
    from policyscope.commands.report import write_beside
    from policyscope.views.compared import files
    from policyscope.views.compared.text import comparison_text
    from policyscope.views.language import speaker

    comparison = compared(config)
    say = speaker(config.lang)
    write_beside(comparison, config)
    if config.format == "json":
        print(files.comparison_json_text(comparison))
    elif config.format == "markdown":
        print(files.comparison_markdown(comparison, say), end="")
    else:
        console().print(comparison_text(comparison, say))
    return int(comparison.exit)


def plan(config: PlanConfig) -> int:
    """Episodes that a question needs."""
    from policyscope.commands.plan import plan as planned

    plans = planned(config)
    if config.json:
        import json

        print(json.dumps([vars(known) for known in plans], indent=1))
    else:
        from policyscope.views.compared.text import plan_text

        console().print(plan_text(plans))
    return 0


def schema(config: SchemaConfig) -> int:
    """A first draft of a dataset's action schema."""
    from policyscope.commands.schema import draft_schema

    print(draft_schema(config), end="")
    return 0


def execute(config: ExecuteConfig) -> int:
    """Ways to run the chunks of a run."""
    from policyscope.commands.executions import show_executions

    show_executions(config, console())
    return 0
