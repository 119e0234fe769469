"""What the episode player plays: one plain structure for offline runs and for rollouts.

The page's script knows nothing but this structure, so whatever can fill it can be played: an
offline run (demonstrated actions, a predicted chunk at every frame) and a rollout (executed
actions, a chunk wherever the policy was asked).
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from policyscope.actions.spaces import FloatArray
from policyscope.runs.clips import Clip

_MISSING = -32768
_STEPS = 65_000


@final
@dataclass(frozen=True, eq=False)
class Rival:
    """What another policy did on the same episode.

    Attributes:
        asked: as `PlayerEpisode` has it.
        chunks: as there.
        executed: as there.
    """

    asked: NDArray[np.int64]
    chunks: FloatArray
    executed: FloatArray | None = None

    def to_json(self) -> dict[str, Any]:
        """As the page's script reads it."""
        return {
            "asked": self.asked.tolist(),
            "chunks": packed(self.chunks),
            "executed": None if self.executed is None else packed(self.executed),
        }


@final
@dataclass(frozen=True, eq=False)
class PlayerEpisode:
    """One episode, in native units; frame t is shown at t / fps seconds.

    Attributes:
        index: episode index, or the place of a rollout in its run: identifies it in lists.
        title: what to call it, for example ``episode 190``.
        task: the instruction, or an empty text.
        role: ``worst``, ``median``, ``best``, ``first_success``, ``first_failure``, ``gain``,
            ``loss``, or an empty text.
        n_frames: frames (T).
        asked: [N] frames at which the policy predicted a chunk, ascending.
        chunks: [N, K, H, A] what it predicted, K samples; NaN past the episode's end.
        demonstrated: [T, A], or None where nobody demonstrated (rollouts).
        executed: actions that were run, or None where none was (offline). [T - 1, A]: the last
            frame of a rollout shows what the last action led to.
        errors: name of a view (``native``, ``normalized``) → [T] error of the chunk of each frame,
            NaN where there is none; shown behind the scrub bar. Rollouts: ``reward``.
        facts: further lines to show, for example ``{"success": "yes", "max reward": "0.93"}``.
        clips: pictures, one clip a camera; empty where they are left out.
        left_out: why there are no pictures, or an empty text.
        others: of a comparison: what the other policies did; `errors` are then keyed by the place
            of a policy, "0" being this one.
        layers: of a comparison of rollouts: whose pictures each clip shows, by place.
    """

    index: int
    title: str
    task: str
    n_frames: int
    asked: NDArray[np.int64]
    chunks: FloatArray
    role: str = ""
    demonstrated: FloatArray | None = None
    executed: FloatArray | None = None
    errors: Mapping[str, FloatArray] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    clips: tuple[Clip, ...] = ()
    left_out: str = ""
    others: tuple[Rival, ...] = ()
    layers: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As the page's script reads it."""
        return {
            "index": self.index,
            "title": self.title,
            "task": self.task,
            "role": self.role,
            "n_frames": self.n_frames,
            "asked": self.asked.tolist(),
            "chunks": packed(self.chunks),
            "demonstrated": None if self.demonstrated is None else packed(self.demonstrated),
            "executed": None if self.executed is None else packed(self.executed),
            "errors": {name: packed(values[:, None]) for name, values in self.errors.items()},
            "facts": dict(self.facts),
            "clips": [
                {**_clip_json(clip), "layer": layer}
                for clip, layer in zip_longest(self.clips, self.layers)
            ],
            "left_out": self.left_out,
            "others": [rival.to_json() for rival in self.others],
        }


def packed(values: ArrayLike) -> dict[str, Any]:
    """An array as 16-bit steps of its range, one range for each index of the last axis.

    Fine enough for drawing (1/65000 of the range), and 15 times smaller than text. The value of
    step s in dim d is ``low[d] + (s + 32767) · scale[d]``; s = -32768 stands for NaN.
    """
    array = np.asarray(values, dtype=np.float64)
    flat = array.reshape(-1, array.shape[-1])
    known = np.isfinite(flat)
    low = np.where(known, flat, np.inf).min(axis=0, initial=np.inf)
    high = np.where(known, flat, -np.inf).max(axis=0, initial=-np.inf)
    low, high = (np.where(np.isfinite(edge), edge, 0.0) for edge in (low, high))
    scale = (high - low) / _STEPS
    scale = np.where(scale > np.finfo(float).tiny, scale, 1.0)  # less has no nine digits
    steps = np.rint((np.where(known, flat, low) - low) / scale) - 32767
    encoded = np.where(known, steps, _MISSING).astype("<i2")
    return {
        "shape": list(array.shape),
        "low": [float(f"{x:.9g}") for x in low],
        "scale": [float(f"{x:.9g}") for x in scale],
        "data": base64.b64encode(encoded.tobytes()).decode(),
    }


def _clip_json(clip: Clip) -> dict[str, Any]:
    layout = {k: v for k, v in vars(clip).items() if k != "sheets"}
    return {**layout, "sheets": [base64.b64encode(sheet).decode() for sheet in clip.sheets]}


def fitting(
    chosen: Iterable[int], clips: Sequence[Clip], room: int
) -> tuple[dict[int, tuple[Clip, ...]], list[int]]:
    """Pictures that fit the page, in the order of choice; and the episodes whose don't."""
    shown: dict[int, tuple[Clip, ...]] = {}
    unseen = []
    for episode in chosen:
        held = tuple(c for c in clips if c.episode == episode)
        size = sum(c.n_bytes for c in held)
        if not held:
            continue
        if size <= room:
            shown[episode] = held
            room -= size
        else:
            unseen.append(episode)
    return shown, unseen
