"""The page of a dataset on trial: what was looked at and found, and a player of episodes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from policyscope.actions.robots import image_plane
from policyscope.checks.trial.looks import Lag, Recordings, Trial
from policyscope.config import Language
from policyscope.files import write_text
from policyscope.runs.clips import Clip
from policyscope.views.html import fill
from policyscope.views.language import Say, speaker
from policyscope.views.player import PlayerEpisode, fitting
from policyscope.views.trial.words import headline, subject
from policyscope.views.words import number, unit_name

_BINS = 48
_PICTURE_BYTES = 7_000_000
_NUMBER_BYTES = 4_000_000


def write_trial_page(
    trial: Trial, chosen: Sequence[int], clips: Sequence[Clip], output: Path, language: Language
) -> Path:
    """Write the page and return its path.

    Args:
        trial: what was found.
        chosen: episodes to play first.
        clips: pictures of some of them.
        output: where it goes.
        language: of the page.

    Raises:
        OutputError: it can't be written.
    """
    say, known = speaker(language), trial.recordings
    played = [] if known is None else _played(trial, known, chosen, clips, say)
    page = fill(
        "trial.html.j2",
        ("report.js", "trial.js", "player.js"),
        {} if known is None else _data(trial, known, played, say),
        language,
        headline=headline(trial, say),
        subject=subject(trial, say),
        looks=[
            (look.outcome, say(look.title), say(look.said, **look.values)) for look in trial.looks
        ],
        record=SimpleNamespace(findings=trial.findings),
        dims=[] if known is None else _dims(known, trial.lag, say),
        odd={episode: _why(trial, episode, say) for episode in trial.odd},
        played=played,
    )
    write_text(output, page)
    return output


def _data(
    trial: Trial, known: Recordings, played: Sequence[PlayerEpisode], say: Say
) -> dict[str, Any]:
    facts, extent = known.source.facts, known.extent
    plane = image_plane(facts.robot.name, facts.robot.actions.units)
    apart = trial.apart if trial.apart is not None else np.full(len(known.episodes), np.nan)
    return {
        "recorded": True,
        "fps": facts.robot.fps,
        "names": facts.robot.actions.labels,
        "units": [unit_name(unit, say) for unit in facts.robot.actions.units],
        "one_unit": say("std"),
        "plane": plane,
        "n_action_steps": 1,
        "dims": [
            {"dim": dim, "nmae": len([j for j in trial.jumps if j.dim == dim])}
            for dim in range(len(extent.mean))
        ],
        "spread": _spread(known),
        "lag": None if trial.lag is None else _lag(trial.lag, facts.robot.fps),
        "by_episode": [
            {
                "episode": episode.index,
                "frames": episode.length,
                "apart": None if np.isnan(far) else float(far),
                "why": _why(trial, episode.index, say),
            }
            for episode, far in zip(known.episodes, apart, strict=True)
        ],
        "episodes": [episode.to_json() for episode in played],
    }


def _why(trial: Trial, episode: int, say: Say) -> str:
    """What to look at in an episode."""
    return ", ".join(say(title) for title in trial.odd.get(episode, ()))


def _spread(known: Recordings) -> list[dict[str, Any]]:
    """How often the actions of each dim are where in their range."""
    every, rows = np.concatenate(known.actions), []
    labels = known.source.facts.robot.actions.labels
    for dim, name in enumerate(labels):
        low, high = float(known.extent.low[dim]), float(known.extent.high[dim])
        counts, _ = np.histogram(every[:, dim], bins=_BINS, range=(low, max(high, low + 1e-12)))
        rows.append(
            {"name": name, "low": low, "high": high, "share": (counts / len(every)).tolist()}
        )
    return rows


def _lag(lag: Lag, fps: float) -> dict[str, Any]:
    return {
        "s": (lag.lags / fps).tolist(),
        "dims": [
            {"name": name, "values": [None if np.isnan(v) else round(float(v), 4) for v in column]}
            for name, column in zip(lag.dims, lag.curve.T, strict=True)
        ],
    }


def _dims(known: Recordings, lag: Lag | None, say: Say) -> list[list[str]]:
    """A row of the table for each action dim."""
    extent, actions = known.extent, known.source.facts.robot.actions
    rows = []
    for dim, name in enumerate(actions.labels):
        behind = "–"
        if lag is not None and not np.isnan(lag.curve[:, dim]).all():
            behind = f"{lag.lags[np.nanargmax(lag.curve[:, dim])]}"
        rows.append(
            [
                name,
                unit_name(actions.units[dim], say),
                *(number(float(v[dim])) for v in (extent.low, extent.mean, extent.high)),
                *(number(float(v[dim])) for v in (extent.std, extent.step)),
                f"{100 * max(extent.at_low[dim], extent.at_high[dim]):.1f} %",
                behind,
            ]
        )
    return rows


def _played(
    trial: Trial, known: Recordings, chosen: Sequence[int], clips: Sequence[Clip], say: Say
) -> list[PlayerEpisode]:
    shown, unseen = fitting(chosen, clips, _PICTURE_BYTES)
    std = known.extent.std
    moving = std > 0
    room, played = _NUMBER_BYTES, {}
    at = {episode.index: place for place, episode in enumerate(known.episodes)}
    for index in dict.fromkeys([*chosen, *at]):
        episode = known.episodes[at[index]]
        values, state = episode.actions.values, episode.state
        room -= 4 * values.size
        if room < 0:
            break
        steps = np.abs(np.diff(values[:, moving], axis=0)) / std[moving]
        speed = np.concatenate([[0.0], steps.max(axis=1, initial=0.0)])
        why = _why(trial, index, say)
        played[index] = PlayerEpisode(
            index=index,
            title=say("episode {episode}", episode=index),
            task=episode.tasks[0],
            n_frames=episode.length,
            asked=np.zeros(0, np.int64),
            chunks=np.zeros((0, 1, 1, values.shape[1])),
            demonstrated=values,
            executed=state if state is not None and state.shape == values.shape else None,
            errors={"native": speed},
            facts={say("look at"): why} if why else {},
            clips=shown.get(index, ()),
            left_out=say("No pictures: with them the page would be larger than 15 MB.")
            if index in unseen
            else "",
        )
    return [played[index] for index in sorted(played)]
