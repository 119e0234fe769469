"""What the command that converts datasets is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import tyro


@final
@dataclass(frozen=True)
class ConvertConfig:
    """Converts a LeRobot dataset of v2.0 or v2.1 to v3.0, into a new directory.

    policyscope convert data/old data/new

    lerobot's own converter writes it; statistics of episodes and counts that it needs and the
    dataset lacks are computed. The old directory is only read.
    """

    root: tyro.conf.Positional[str]
    """Directory of the dataset."""
    output_dir: tyro.conf.Positional[str]
    """Where the converted one goes: a directory that is not there yet."""
