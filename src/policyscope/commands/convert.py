"""Datasets of older formats, converted into a new directory by lerobot's own converter."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from policyscope.commands.streams import chatter_in
from policyscope.config import ConvertConfig, DatasetConfig
from policyscope.data.files import Folder, unreadable
from policyscope.data.hub import locate
from policyscope.data.info import INFO
from policyscope.data.legacy import Legacy, read_legacy, require_files, stage
from policyscope.data.source import FrameSource
from policyscope.errors import InputError, OutputError


def convert(config: ConvertConfig) -> Path:
    """Convert a dataset of v2.0 or v2.1 to v3.0.

    Args:
        config: from where to where.

    Returns:
        The directory of the converted dataset, which was opened to see that it can be.

    Raises:
        DatasetError: not a dataset that can be converted, or a file is missing or broken.
        OutputError: the new directory is there already, or can't be written.
    """
    root = locate(DatasetConfig(root=config.root), config.root)
    output = Path(config.output_dir).expanduser()
    if output.exists() or output.is_symlink():
        raise OutputError(
            f"output_dir {output}",
            expected="a directory that is not there yet",
            found="one that is",
            fix=f"policyscope convert {config.root} {config.output_dir}-v30",
        )
    known = read_legacy(Folder(root, root.name))
    files = require_files(known)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as holder:
            staged, made = Path(holder) / "old", Path(holder) / "new"
            staged.mkdir()
            stage(known, files, staged)
            with chatter_in(Path(holder) / "log"):
                _lerobots(known, staged, made)
            FrameSource(DatasetConfig(root=str(made)), repo_id=root.name)
            shutil.move(made, output)
    except OSError as error:
        raise OutputError(
            f"output_dir {output}",
            expected="a place that can be written",
            found=str(error)[:200],
            fix="another directory",
        ) from error
    return output


def _lerobots(known: Legacy, root: Path, made: Path) -> None:
    """Let lerobot convert what was staged.

    Raises:
        DatasetError: it can't.
    """
    from lerobot.datasets.utils import (
        DEFAULT_DATA_FILE_SIZE_IN_MB,
        DEFAULT_VIDEO_FILE_SIZE_IN_MB,
    )
    from lerobot.scripts import convert_dataset_v21_to_v30 as lerobots

    try:
        lerobots.convert_info(
            root, made, DEFAULT_DATA_FILE_SIZE_IN_MB, DEFAULT_VIDEO_FILE_SIZE_IN_MB
        )
        lerobots.convert_tasks(root, made)
        data = lerobots.convert_data(root, made, DEFAULT_DATA_FILE_SIZE_IN_MB)
        videos = lerobots.convert_videos(root, made, DEFAULT_VIDEO_FILE_SIZE_IN_MB)
        lerobots.convert_episodes_metadata(root, made, data, videos)
    except InputError:
        raise
    except Exception as error:  # pandas, FFmpeg and lerobot raise families of their own
        raise unreadable(f"dataset {known.folder.name}", error) from error
    _restore_rate(made / INFO, known.info["fps"])


def _restore_rate(path: Path, fps: Any) -> None:
    """The rate as it was: lerobot cuts it to a whole number, and 12.5 Hz are not 12."""
    if isinstance(fps, float) and fps != int(fps):
        info = json.loads(path.read_text())
        info["fps"] = fps
        for feature in info["features"].values():
            feature |= {"fps": fps} if "fps" in feature else {}
        path.write_text(json.dumps(info, indent=4))
