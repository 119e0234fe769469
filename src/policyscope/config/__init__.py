"""What a command is asked to do: frozen configs that feed the flags, the Python API, the record.

Light on purpose: the command line imports this room and must answer ``--help`` at once. A text
from the user is parsed here, once (`parsing`). Whether what it asks for exists or fits is said
elsewhere: by whoever opens it, or by `policyscope.checks`.
"""

from policyscope.config.closed_loop import CheckEnvConfig, RolloutConfig
from policyscope.config.comparing import CompareConfig, PlanConfig
from policyscope.config.converting import ConvertConfig
from policyscope.config.correlating import CorrelateConfig
from policyscope.config.importing import ImportConfig, ImportedEnv, ImportedPolicy
from policyscope.config.offline import BenchConfig, CheckConfig, EvalConfig, SchemaConfig
from policyscope.config.options import OfflineOptions, PolicyOptions
from policyscope.config.pages import DemoConfig, ExecuteConfig, ReportConfig
from policyscope.config.parts import (
    DatasetConfig,
    EnvConfig,
    Language,
    PageConfig,
    PolicyConfig,
    RayConfig,
)
from policyscope.config.serving import ServeConfig
from policyscope.config.sweep import SweepConfig

__all__ = [
    "BenchConfig",
    "CheckConfig",
    "CheckEnvConfig",
    "CompareConfig",
    "ConvertConfig",
    "CorrelateConfig",
    "DatasetConfig",
    "DemoConfig",
    "EnvConfig",
    "EvalConfig",
    "ExecuteConfig",
    "ImportConfig",
    "ImportedEnv",
    "ImportedPolicy",
    "Language",
    "OfflineOptions",
    "PageConfig",
    "PlanConfig",
    "PolicyConfig",
    "PolicyOptions",
    "RayConfig",
    "ReportConfig",
    "RolloutConfig",
    "SchemaConfig",
    "ServeConfig",
    "SweepConfig",
]
