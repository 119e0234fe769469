"""A dataset on trial: its demonstrations are looked at, without any policy."""

from __future__ import annotations

import contextlib
from pathlib import Path

from policyscope.checks.trial.looks import Trial
from policyscope.checks.trial.run import look
from policyscope.config import CheckConfig
from policyscope.data.source import FrameSource
from policyscope.engine.footage import episode_clips
from policyscope.errors import DatasetError
from policyscope.runs.clips import Clip

_MOST_PLAYED = 5  # odd episodes with pictures


def check_dataset(config: CheckConfig) -> Trial:
    """Look at demonstrations: their metadata, clocks, motion, episodes, tasks and pictures.

    Args:
        config: which dataset and episodes; ``html`` also writes a page.

    Raises:
        InputError: the dataset can't be read, or the page can't be written.
    """
    source = FrameSource(config.dataset, repo_id=config.dataset_name)
    trial = look(source, source.facts.choose(config.dataset.episodes), config.action_kind)
    if config.html is not None:
        from policyscope.views.trial.page import write_trial_page

        chosen = _chosen(trial)
        output = Path(config.html).expanduser()
        write_trial_page(trial, chosen, _clips(trial, chosen), output, config.lang)
    return trial


def _chosen(trial: Trial) -> list[int]:
    """Episodes to play first: those that are odd, then one that is like most."""
    if trial.recordings is None:
        return []
    episodes = trial.recordings.episodes
    usual = sorted(episodes, key=lambda episode: episode.length)[len(episodes) // 2].index
    readable = {episode.index for episode in episodes}
    odd = [episode for episode in trial.odd if episode in readable][:_MOST_PLAYED]
    return list(dict.fromkeys([*odd, usual]))


def _clips(trial: Trial, chosen: list[int]) -> list[Clip]:
    """Their pictures; a page can do without, and broken ones are found."""
    clips: list[Clip] = []
    for episode in chosen:
        with contextlib.suppress(DatasetError):
            clips += episode_clips(trial.source, episode, trial.source.facts.lengths[episode])
    return clips
