"""What the command line prints of checks: of a policy, of a dataset alone, of an environment."""

from __future__ import annotations

import json

from policyscope.commands.streams import console, quiet
from policyscope.config import CheckConfig, CheckEnvConfig
from policyscope.errors import Finding, errors_in


def check_environment(command: CheckEnvConfig) -> int:
    """An environment on trial."""
    quiet()
    from policyscope.sim.conformance import check_environment as findings_of
    from policyscope.views.words import findings_text

    findings = findings_of(command.env)
    broken = errors_in(findings)
    if findings:
        console().print(findings_text(findings))
    if not broken:
        print("the environment keeps the contract" + (", but for these" if findings else ""))
    return 1 if broken else 0


def check(config: CheckConfig) -> int:
    """A policy on a dataset, or a dataset alone."""
    quiet()
    if config.without_policy:
        return _check_dataset(config)
    from policyscope.commands.check import check as checked
    from policyscope.views.checked import checked_text

    inputs = checked(config)
    if config.json:
        _print_json(inputs.findings)
    else:
        console().print(checked_text(inputs, config))
    return _status(inputs.findings)


def _check_dataset(config: CheckConfig) -> int:
    from policyscope.commands.trial import check_dataset
    from policyscope.views.trial.table import checklist

    trial = check_dataset(config)
    if config.json:
        _print_json(trial.findings)
    else:
        out = console()
        out.print(checklist(trial))
        if config.html is not None:
            out.print(config.html, markup=False)
    return _status(trial.findings)


def _print_json(found: tuple[Finding, ...]) -> None:
    print(json.dumps([finding.to_json() for finding in found], indent=1))


def _status(found: tuple[Finding, ...]) -> int:
    return 1 if any(finding.severity != "info" for finding in found) else 0
