"""The main job on what the package ships: a small SmolVLA on our own PushT demonstrations.

Where gym-pusht is installed, a second policy that ships plays PushT: an ACT on keypoints.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import as_file, files
from pathlib import Path

from policyscope.config import (
    DatasetConfig,
    DemoConfig,
    EnvConfig,
    EvalConfig,
    PolicyConfig,
    RolloutConfig,
)
from policyscope.policies.checkpoint import POSTPROCESSOR


@contextmanager
def demo_config(demo: DemoConfig) -> Iterator[EvalConfig]:
    """The evaluation that the demo runs."""
    with (
        as_file(files("policyscope") / "assets" / "smolvla-pusht") as checkpoint,
        as_file(files("policyscope") / "assets" / "pusht-planner") as data,
        tempfile.TemporaryDirectory() as scratch,
    ):
        policy = _without_unnormalizer(checkpoint, Path(scratch)) if demo.broken else checkpoint
        yield EvalConfig(
            policy=PolicyConfig(path=str(policy)),
            dataset=DatasetConfig(repo_id="policyscope/pusht-planner", root=str(data)),
            output_dir=demo.output_dir + ("-broken" if demo.broken else ""),
            overwrite=True,
            force=demo.force,
        )


@contextmanager
def demo_rollout(demo: DemoConfig) -> Iterator[RolloutConfig | None]:
    """The three games of PushT that end the demo; None where gym-pusht is not installed."""
    try:
        version("gym-pusht")
    except PackageNotFoundError:
        yield None
        return
    with as_file(files("policyscope") / "assets" / "act-pusht") as checkpoint:
        yield RolloutConfig(
            policy=PolicyConfig(path=str(checkpoint)),
            env=EnvConfig(type="pusht", settings='{"obs_type": "environment_state_agent_pos"}'),
            output_dir=f"{demo.output_dir}-games",
            n_episodes=3,
            video="all",
            latency_calls=0,
            overwrite=True,
        )


def _without_unnormalizer(checkpoint: Path, scratch: Path) -> Path:
    """A copy of the checkpoint whose outputs stay normalized."""
    broken = scratch / "smolvla-pusht-broken"
    shutil.copytree(checkpoint, broken)
    file = broken / POSTPROCESSOR
    content = json.loads(file.read_text(encoding="utf-8"))
    content["steps"] = [
        s for s in content["steps"] if s["registry_name"] != "unnormalizer_processor"
    ]
    file.write_text(json.dumps(content), encoding="utf-8")
    return broken
