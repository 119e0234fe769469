"""policyscope: is this checkpoint any good?

Evaluates robot policies on recorded demonstrations and gives numbers that mean something: native
units by construction, against trivial baselines, with honest intervals.

    import policyscope as ps

    config = ps.EvalConfig(
        policy=ps.PolicyConfig(path="outputs/train/my_policy/checkpoints/last/pretrained_model"),
        dataset=ps.DatasetConfig(repo_id="lerobot/pusht"),
    )
    run = ps.evaluate(config)
    print(run.record["summary"]["chunk"]["mae"])

Importing this package loads neither torch nor lerobot; names are loaded when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from policyscope.config import (
        DatasetConfig,
        EnvConfig,
        EvalConfig,
        PageConfig,
        PolicyConfig,
        RolloutConfig,
    )
    from policyscope.errors import InputError, PolicyscopeError, RefusedError
    from policyscope.evaluation import Run, check, evaluate
    from policyscope.findings import Finding
    from policyscope.metrics import mae, mse
    from policyscope.report import ReportConfig, render, render_together
    from policyscope.run.record import read_record
    from policyscope.sim.conformance import check_environment
    from policyscope.sim.rollout import rollout
    from policyscope.sim.tally import read_eval_info
    from policyscope.spaces import ActionSchema, NativeActions, NormalizedActions, Normalizer

_HOME = {
    "ActionSchema": "spaces",
    "DatasetConfig": "config",
    "EnvConfig": "config",
    "EvalConfig": "config",
    "Finding": "findings",
    "InputError": "errors",
    "NativeActions": "spaces",
    "NormalizedActions": "spaces",
    "Normalizer": "spaces",
    "PageConfig": "config",
    "PolicyConfig": "config",
    "PolicyscopeError": "errors",
    "RefusedError": "errors",
    "ReportConfig": "report",
    "RolloutConfig": "config",
    "Run": "evaluation",
    "check": "evaluation",
    "check_environment": "sim.conformance",
    "evaluate": "evaluation",
    "mae": "metrics",
    "mse": "metrics",
    "read_eval_info": "sim.tally",
    "read_record": "run.record",
    "render": "report",
    "render_together": "report",
    "rollout": "sim.rollout",
}

__all__ = [
    "ActionSchema",
    "DatasetConfig",
    "EnvConfig",
    "EvalConfig",
    "Finding",
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
    "check",
    "check_environment",
    "evaluate",
    "mae",
    "mse",
    "read_eval_info",
    "read_record",
    "render",
    "render_together",
    "rollout",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
