"""What the episode player plays of a closed-loop run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from policyscope.runs.chosen import roles
from policyscope.runs.clips import SIMULATOR, Clip
from policyscope.runs.rollouts import StoredRollout
from policyscope.views.language import Say
from policyscope.views.player import PlayerEpisode, fitting
from policyscope.views.rollout.words import called
from policyscope.views.words import number

_ACTION_BYTES = 3_000_000
_CLIP_BYTES = 7_000_000  # beside the picture and the videos


def played_rollouts(
    episodes: Sequence[StoredRollout], clips: Sequence[Clip], say: Say, *, many_tasks: bool
) -> list[PlayerEpisode]:
    """Episodes for the player, in the order of the run; those with a role come first to the room.

    Args:
        episodes: of the run, in order.
        clips: the pictures that the run keeps.
        say: the page's language.
        many_tasks: whether titles name the task.
    """
    role = roles([known.row for known in episodes])
    order = list(dict.fromkeys([*role, *(clip.episode for clip in clips)]))
    shown, unseen = fitting(order, clips, _CLIP_BYTES)
    room, played = _ACTION_BYTES, {}
    for index in dict.fromkeys([*order, *range(len(episodes))]):
        known = episodes[index]
        size = 2 * (known.chunks.size + known.actions.size)
        if not len(known.actions) or size > room:
            continue
        room -= size
        played[index] = replace(
            _played(known, many_tasks, say),
            role=role.get(index, ""),
            clips=tuple(
                replace(clip, camera=say("the simulator's picture"))
                if clip.camera == SIMULATOR
                else clip
                for clip in shown.get(index, ())
            ),
            left_out="" if index in shown else _why(index in unseen, say),
        )
    return [played[index] for index in sorted(played)]


def _played(known: StoredRollout, many_tasks: bool, say: Say) -> PlayerEpisode:
    row, n_actions = known.row, len(known.actions)
    ahead = known.called_at[:, None] + np.arange(known.chunks.shape[1])
    name = called(row, say)
    return PlayerEpisode(
        index=row.episode,
        title=f"{row.task_group} {row.task_id}, {name}" if many_tasks else name,
        task=row.task,
        n_frames=n_actions + 1,
        asked=known.called_at,
        chunks=np.where((ahead <= n_actions)[..., None], known.chunks, np.nan)[:, None],
        executed=known.actions,
        errors={"reward": np.concatenate([[0.0], known.rewards])},
        facts={
            say("success"): say({True: "yes", False: "no", None: "unknown"}[row.success]),
            say("max reward"): number(row.max_reward),
            say("return"): number(row.sum_reward),
        },
    )


def _why(too_large: bool, say: Say) -> str:
    if too_large:
        return say("No pictures: with them the page would be larger than 15 MB.")
    return say("No pictures of this episode: a rollout keeps them of some that --video names.")
