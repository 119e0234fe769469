"""The main numbers of checkpoints in somebody's experiment tracker, by training step.

Nothing is sent anywhere unless the tracker's own environment variables say so: Weights & Biases
runs offline (``WANDB_MODE``), MLflow and Trackio write into the output directory
(``MLFLOW_TRACKING_URI``, ``TRACKIO_DIR``).
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, final

from policyscope.config.sweep import Tracker as Kind
from policyscope.errors import UsageError
from policyscope.runs.sweep import SweepRow


class Tracker(Protocol):
    """Takes numbers by training step."""

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Keep the numbers of one checkpoint."""

    def close(self) -> None:
        """Nothing more will be logged."""


def numbers_of(row: SweepRow) -> dict[str, float]:
    """The main numbers of a checkpoint, each with the ends of its interval.

    ``executed/error``, ``executed/error_ci_low``, ``chunk/skill``, ``success/rate`` and so on; none
    of a checkpoint whose numbers may mean nothing.
    """
    if row.status != "complete" or row.errors:
        return {}
    found: dict[str, float | None] = {}
    for what, table in (("error", row.error), ("skill", row.skill)):
        for scope, value in table.items():
            name = f"{scope}/{what}"
            found[name] = value.value
            found[f"{name}_ci_low"], found[f"{name}_ci_high"] = value.ci_low, value.ci_high
    if row.success is not None:
        found["success/rate"] = row.success.rate
        found["success/rate_ci_low"] = row.success.ci_low
        found["success/rate_ci_high"] = row.success.ci_high
    return {name: value for name, value in found.items() if value is not None}


def open_tracker(kind: Kind, directory: Path, *, project: str, name: str) -> Tracker | None:
    """A run of the tracker, or None where none is asked for.

    Args:
        kind: which.
        directory: of the sweep, for what is written locally.
        project: what the tracker calls the project.
        name: of its run.

    Raises:
        UsageError: its package is not installed, or it can't begin.
    """
    if kind == "none":
        return None
    try:
        with _quiet_stdout():
            return _OPENED[kind](directory, project, name)
    except ImportError as error:
        raise UsageError(
            f"--tracker {kind}",
            expected=f"the package {_PACKAGES[kind]}",
            found=str(error)[:200],
            fix=f"pip install 'policyscope[{kind}]'",
        ) from error
    except Exception as error:  # whatever a tracker raises where it can't write or log in
        raise UsageError(
            f"--tracker {kind}",
            expected="a tracker that begins a run",
            found=f"{type(error).__name__}: {error}"[:300],
            fix="its own environment variables, or leave --tracker out",
        ) from error


_PACKAGES = {"wandb": "wandb", "mlflow": "mlflow-skinny", "trackio": "trackio"}


@contextlib.contextmanager
def _quiet_stdout() -> Iterator[None]:
    """Trackers greet; standard output is for results."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


@final
class _Wandb:
    def __init__(self, directory: Path, project: str, name: str) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        settings = wandb.Settings(console="off", disable_code=True, disable_git=True)
        mode: Any = os.environ.get("WANDB_MODE", "offline")
        self._run: Any = wandb.init(
            project=project, name=name, dir=str(directory), mode=mode, settings=settings
        )
        self._run.define_metric("*", step_metric="training_step")

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        self._run.log({**numbers, "training_step": step})

    def close(self) -> None:
        self._run.finish()


@final
class _Mlflow:
    def __init__(self, directory: Path, project: str, name: str) -> None:
        where = os.environ.get("MLFLOW_TRACKING_URI")
        if where is None:  # files need no database; MLflow asks to be told so
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
            where = (directory / "mlruns").resolve().as_uri()
        import mlflow
        from mlflow.entities import Metric

        self._metric: Any = Metric
        self._client: Any = mlflow.MlflowClient(tracking_uri=where)
        known = self._client.get_experiment_by_name(project)
        experiment = known.experiment_id if known else self._client.create_experiment(project)
        self._run = self._client.create_run(experiment, run_name=name).info.run_id

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        metrics = [self._metric(key, value, now, step) for key, value in numbers.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def close(self) -> None:
        self._client.set_terminated(self._run)


@final
class _Trackio:
    def __init__(self, directory: Path, project: str, name: str) -> None:
        os.environ.setdefault("TRACKIO_DIR", str((directory / "trackio").resolve()))
        import trackio

        self._run: Any = trackio.init(
            project=project, name=name, embed=False, auto_log_gpu=False, auto_log_cpu=False
        )

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        self._run.log(dict(numbers), step=step)

    def close(self) -> None:
        import trackio

        with _quiet_stdout():
            trackio.finish()  # not the run's own: at exit that would be finished, and said, again


_OPENED: dict[str, Callable[[Path, str, str], Tracker]] = {
    "wandb": _Wandb,
    "mlflow": _Mlflow,
    "trackio": _Trackio,
}
