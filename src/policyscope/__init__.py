"""policyscope: is this checkpoint any good?

Evaluates robot policies on recorded demonstrations and gives numbers that mean something: native
units by construction, against trivial baselines, with honest intervals.

    import policyscope as ps

    config = ps.EvalConfig(
        policy=ps.PolicyConfig(path="outputs/train/my_policy/checkpoints/last/pretrained_model"),
        dataset=ps.DatasetConfig(repo_id="lerobot/pusht"),
    )
    run = ps.evaluate(config)
    print(run.record.summary.chunk.mae)

Importing this package loads neither torch nor lerobot; names are loaded when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from policyscope.actions.spaces import (
        ActionSchema,
        NativeActions,
        NormalizedActions,
        Normalizer,
    )
    from policyscope.commands.check import check
    from policyscope.commands.evaluate import evaluate
    from policyscope.commands.importing import import_run
    from policyscope.commands.report import render, render_together
    from policyscope.commands.rollout import rollout
    from policyscope.commands.session import Run
    from policyscope.commands.sweep import sweep
    from policyscope.commands.trial import check_dataset
    from policyscope.config import (
        CheckConfig,
        DatasetConfig,
        EnvConfig,
        EvalConfig,
        ImportConfig,
        PageConfig,
        PolicyConfig,
        ReportConfig,
        RolloutConfig,
        SweepConfig,
    )
    from policyscope.engine.progress import Watch
    from policyscope.errors import Finding, InputError, PolicyscopeError, RefusedError
    from policyscope.metrics import mae, mse
    from policyscope.metrics.tally import read_eval_info
    from policyscope.runs.record import read_record
    from policyscope.sim.conformance import check_environment

_HOME = {
    "ActionSchema": "actions.spaces",
    "CheckConfig": "config",
    "DatasetConfig": "config",
    "EnvConfig": "config",
    "EvalConfig": "config",
    "Finding": "errors",
    "ImportConfig": "config",
    "InputError": "errors",
    "NativeActions": "actions.spaces",
    "NormalizedActions": "actions.spaces",
    "Normalizer": "actions.spaces",
    "PageConfig": "config",
    "PolicyConfig": "config",
    "PolicyscopeError": "errors",
    "RefusedError": "errors",
    "ReportConfig": "config",
    "RolloutConfig": "config",
    "Run": "commands.session",
    "SweepConfig": "config",
    "Watch": "engine.progress",
    "check": "commands.check",
    "check_dataset": "commands.trial",
    "check_environment": "sim.conformance",
    "evaluate": "commands.evaluate",
    "import_run": "commands.importing",
    "mae": "metrics",
    "mse": "metrics",
    "read_eval_info": "metrics.tally",
    "read_record": "runs.record",
    "render": "commands.report",
    "render_together": "commands.report",
    "rollout": "commands.rollout",
    "sweep": "commands.sweep",
}

__all__ = [
    "ActionSchema",
    "CheckConfig",
    "DatasetConfig",
    "EnvConfig",
    "EvalConfig",
    "Finding",
    "ImportConfig",
    "InputError",
    "NativeActions",
    "NormalizedActions",
    "Normalizer",
    "PageConfig",
    "PolicyConfig",
    "PolicyscopeError",
    "RefusedError",
    "ReportConfig",
    "RolloutConfig",
    "Run",
    "SweepConfig",
    "Watch",
    "check",
    "check_dataset",
    "check_environment",
    "evaluate",
    "import_run",
    "mae",
    "mse",
    "read_eval_info",
    "read_record",
    "render",
    "render_together",
    "rollout",
    "sweep",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
