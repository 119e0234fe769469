"""One player for several policies: their chunks on the same episode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from policyscope.actions.spaces import FloatArray
from policyscope.checks.comparison import StoredRun
from policyscope.runs.clips import Clip, read_clips
from policyscope.runs.content import OfflineRecord, RolloutRecord
from policyscope.runs.directory import STEPS, RunDirectory
from policyscope.runs.episodes import episode_rows, rollout_rows
from policyscope.runs.predictions import PREDICTIONS, StoredEpisode
from policyscope.runs.rollouts import StoredRollout, stored_rollouts
from policyscope.views.language import Say
from policyscope.views.player import PlayerEpisode, Rival, fitting
from policyscope.views.words import number

_ACTION_BYTES = 3_000_000
_CLIP_BYTES = 7_000_000


# ── on recorded demonstrations ────────────────────────────────────────


def played_offline(
    runs: Sequence[StoredRun], gains: Mapping[int, float], metric: str, say: Say
) -> list[PlayerEpisode]:
    """Episodes for the player: those first on which the first two runs differ most.

    Args:
        runs: comparable ones, the base first.
        gains: episode → error of the first run less that of the base.
        metric: of `gains`.
        say: the page's language.
    """
    base = runs[0]
    assert isinstance(base.record, OfflineRecord)
    order = sorted(gains, key=lambda e: (-abs(gains[e]), e))
    role = {min(gains, key=lambda e: gains[e]): "gain", max(gains, key=lambda e: gains[e]): "loss"}
    role = {e: r for e, r in role.items() if (gains[e] < 0) == (r == "gain") and gains[e]}
    order = [*role, *(e for e in order if e not in role)]
    shown, unseen = fitting(order, _shared_clips(runs), _CLIP_BYTES)
    rows = {row.episode_index: row for row in episode_rows(base.path, base.record)}
    size = base.record.policy.chunk * len(base.record.actions.names) * 2 * len(runs)
    chosen = _that_fit(order, {e: row.n_frames * size for e, row in rows.items()})
    played: dict[int, PlayerEpisode] = {}
    for together in zip(*(RunDirectory(run.path).stored() for run in runs), strict=True):
        index = together[0].index
        if index not in chosen:
            continue
        why = "" if index in shown else _no_pictures(index in unseen, say)
        fact = {say("{metric}, B less A", metric=metric): f"{gains[index]:+.3g}"}
        played[index] = replace(
            _one_offline(together, rows[index].task),
            role=role.get(index, ""),
            clips=shown.get(index, ()),
            left_out=why,
            facts=fact,
        )
    return [played[e] for e in sorted(played)]


def _that_fit(order: Sequence[int], sizes: Mapping[int, int]) -> set[int]:
    """Episodes whose chunks the page has room for, in the order of choice."""
    room, chosen = _ACTION_BYTES, set[int]()
    for episode in order:
        if sizes[episode] <= room:
            chosen.add(episode)
            room -= sizes[episode]
    return chosen


def _shared_clips(runs: Sequence[StoredRun]) -> list[Clip]:
    """Pictures of each episode, from the first run that kept them: all saw the same."""
    found: dict[int, list[Clip]] = {}
    for run in runs:
        kept = read_clips(run.path)
        for episode in {clip.episode for clip in kept} - found.keys():
            found[episode] = [clip for clip in kept if clip.episode == episode]
    return [clip for clips in found.values() for clip in clips]


def _one_offline(together: Sequence[StoredEpisode], task: str) -> PlayerEpisode:
    first = together[0]
    asked = first.frame_index
    n = int(asked[-1]) + 1
    dim = first.target.values.shape[-1]
    demonstrated = np.full((n, dim), np.nan)
    for h in range(first.target.values.shape[1]):  # a stride leaves frames to the chunks
        there = (asked + h < n) & ~first.is_pad[:, h]
        demonstrated[asked[there] + h] = first.target.values[there, h]
    chunks = [
        np.where(first.is_pad[:, None, :, None], np.nan, one.predicted[0].values[:, None])
        for one in together
    ]
    errors = {}
    for i, one in enumerate(together):
        spread = np.full(n, np.nan)
        spread[asked] = _error_by_frame(one)
        errors[str(i)] = spread
    return PlayerEpisode(
        index=first.index,
        title=str(first.index),
        task=task,
        n_frames=n,
        asked=asked,
        chunks=chunks[0],
        demonstrated=demonstrated,
        errors=errors,
        others=tuple(Rival(asked, other) for other in chunks[1:]),
    )


def _error_by_frame(one: StoredEpisode) -> FloatArray:
    """[T] mean absolute error of each frame's chunk, every dim over its demonstrated range."""
    span = one.target.values.max(axis=(0, 1)) - one.target.values.min(axis=(0, 1))
    error = np.mean([np.abs(p.values - one.target.values) for p in one.predicted], axis=0)
    real = ~one.is_pad
    scaled = (error / np.where(span > 0, span, 1.0)).mean(axis=-1)
    mean: FloatArray = (scaled * real).sum(axis=1) / np.maximum(real.sum(axis=1), 1)
    return mean


# ── in closed loop ────────────────────────────────────────────────────


def played_together(
    runs: Sequence[StoredRun], names: Sequence[str], say: Say
) -> list[PlayerEpisode]:
    """Rollouts of the same seed side by side; without shared seeds there is nothing to put so.

    Args:
        runs: comparable ones, the base first.
        names: what to call them.
        say: the page's language.
    """
    if not all((run.path / name).is_file() for run in runs for name in (PREDICTIONS, STEPS)):
        return []  # a run made elsewhere has its outcomes alone
    known = [_by_seed(run) for run in runs]
    shared = [key for key in known[0] if all(key in other for other in known)]
    if not shared:
        return []
    apart = [key for key in shared if len({bool(k[key].row.success) for k in known}) > 1]
    role = _roles(apart, known)
    clips = [read_clips(run.path) for run in runs]
    places = {key: i for i, key in enumerate(shared)}
    order = [*apart, *(key for key in shared if key not in apart)]
    room, pictures, played = _ACTION_BYTES, _CLIP_BYTES, {}
    for key in order:
        together = [k[key] for k in known]
        size = sum(2 * (one.chunks.size + one.actions.size) for one in together)
        if size > room or not all(len(one.actions) for one in together):
            continue
        room -= size
        held = [
            (i, replace(clip, camera=name))
            for i, (name, one) in enumerate(zip(names, together, strict=True))
            for clip in clips[i]
            if clip.episode == one.row.episode
        ]
        weight = sum(clip.n_bytes for _, clip in held)
        held = held if weight <= pictures else []
        pictures -= sum(clip.n_bytes for _, clip in held)
        played[key] = replace(
            _one_together(together, places[key], names, say),
            role=role.get(key, ""),
            clips=tuple(clip for _, clip in held),
            layers=tuple(i for i, _ in held),
            left_out="" if held else _no_pictures(bool(weight), say),
        )
    return [played[key] for key in shared if key in played]


type _Key = tuple[str, int, int | None]


def _by_seed(run: StoredRun) -> dict[_Key, StoredRollout]:
    assert isinstance(run.record, RolloutRecord)
    rows = rollout_rows(run.path, run.record)
    return {
        (one.row.task_group, one.row.task_id, one.row.seed): one
        for one in stored_rollouts(run.path, rows)
    }


def _roles(apart: Sequence[_Key], known: Sequence[Mapping[_Key, StoredRollout]]) -> dict[_Key, str]:
    """The first seed that only the second run solves, and the first that only the base does."""
    found: dict[_Key, str] = {}
    for role, solved in (("gain", 1), ("loss", 0)):
        one, other = known[solved], known[1 - solved]
        only = [k for k in apart if one[k].row.success and not other[k].row.success]
        found |= dict.fromkeys(only[:1], role)
    return found


def _one_together(
    together: Sequence[StoredRollout], place: int, names: Sequence[str], say: Say
) -> PlayerEpisode:
    n = max(len(one.actions) for one in together) + 1
    errors = {}
    for i, one in enumerate(together):
        rewards = np.full(n, np.nan)
        rewards[: len(one.rewards) + 1] = np.concatenate([[0.0], one.rewards])
        errors[str(i)] = rewards
    first = together[0]
    words = {True: say("success"), False: say("no success"), None: say("unknown")}
    return PlayerEpisode(
        index=place,
        title=say("seed {seed}", seed=first.row.seed),
        task=first.row.task,
        n_frames=n,
        asked=first.called_at,
        chunks=_chunks(first),
        executed=first.actions,
        errors=errors,
        facts={
            name: say(
                "{outcome}, max reward {reward}",
                outcome=words[one.row.success],
                reward=number(one.row.max_reward),
            )
            for name, one in zip(names, together, strict=True)
        },
        others=tuple(Rival(o.called_at, _chunks(o), o.actions) for o in together[1:]),
    )


def _chunks(one: StoredRollout) -> FloatArray:
    ahead = one.called_at[:, None] + np.arange(one.chunks.shape[1])
    chunks: FloatArray = np.where((ahead <= len(one.actions))[..., None], one.chunks, np.nan)
    return chunks[:, None]


def _no_pictures(too_large: bool, say: Say) -> str:
    if too_large:
        return say("No pictures: with them the page would be larger than 15 MB.")
    return say("No pictures of this episode: none of the runs has kept them.")
