"""The main job on what the package ships: a small SmolVLA on our own PushT demonstrations."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import final

from policyscope.checkpoint import POSTPROCESSOR
from policyscope.config import DatasetConfig, EvalConfig, PolicyConfig

NEXT = (
    "policyscope check --policy.path YOUR/pretrained_model --dataset.repo_id YOU/DATA",
    "policyscope eval --policy.path YOUR/pretrained_model --dataset.repo_id YOU/DATA",
    "policyscope eval --policy.type hold_state --dataset.repo_id YOU/DATA --dataset.root DIR",
)


@final
@dataclass(frozen=True)
class DemoConfig:
    """The main job on what the package ships: no network, no other set-up.

    policyscope demo

    policyscope demo --broken --force
    """

    output_dir: str = "outputs/policyscope/demo"
    """Run directory; replaced at each demo."""
    broken: bool = False
    """Show the bug that this project exists to end: the same checkpoint, its unnormalizer
    removed. It is refused; with --force the meaningless number stands beside the right one."""
    force: bool = False
    """With --broken: compute the number all the same."""


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
