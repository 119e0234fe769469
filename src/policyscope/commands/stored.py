"""What the command line prints of runs that are stored, or were made elsewhere."""

from __future__ import annotations

from policyscope.commands.streams import console, quiet
from policyscope.config import CorrelateConfig, ImportConfig, ReportConfig


def take_in(config: ImportConfig) -> int:
    """A run made elsewhere."""
    quiet()
    from policyscope.commands.importing import import_run
    from policyscope.commands.report import render
    from policyscope.views.rollout.table import rollout_table

    run = import_run(config)
    page = render(ReportConfig(str(run.directory), lang=config.lang))
    out = console()
    out.print(rollout_table(run.record))
    out.print(f"{page}, beside report.png, run.json, eval_info.json", markup=False)
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
