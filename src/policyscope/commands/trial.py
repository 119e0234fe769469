"""A dataset on trial: its demonstrations are looked at, without any policy."""

from __future__ import annotations

from policyscope.checks.trial.looks import Trial
from policyscope.checks.trial.run import look
from policyscope.config import CheckConfig
from policyscope.data.source import FrameSource


def check_dataset(config: CheckConfig) -> Trial:
    """Look at demonstrations: their metadata, clocks, motion, episodes, tasks and pictures.

    Args:
        config: which dataset and episodes; ``html`` also writes a page.

    Raises:
        InputError: the dataset can't be read, or the page can't be written.
    """
    source = FrameSource(config.dataset, repo_id=config.dataset_name)
    return look(source, source.facts.choose(config.dataset.episodes), config.action_kind)
