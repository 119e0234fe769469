"""Sums as plain arrays and a JSON header, so that whatever stores arrays can store them.

Unpacking trusts nothing: every array is checked against the header and the others before it is
used, and what does not fit is one line of error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.declared import stored_meanings
from policyscope.actions.spaces import ActionSchema, FloatArray
from policyscope.errors import InputError, OutputError
from policyscope.metrics.grippers import EVENTS, OUTCOMES
from policyscope.metrics.meant import MeaningSums
from policyscope.metrics.samples import SampleSums
from policyscope.metrics.segments import Segments
from policyscope.metrics.shape import EpisodeShape
from policyscope.metrics.sums import Measure, Sums

Arrays = dict[str, NDArray[Any]]

_VERSION = 2
_SCALARS = ("n_frames", "ade", "fde", "path", "path_demo", "disagreement", "n_overlap")
_LISTS = ("jumps", "jumps_demo", "steps", "steps_demo")
_SAMPLED = ("k", "n_frames", "n_values", "squared_mean", "squared_best", "variance", "energy")
_WHOLE = ("n_frames", "n_overlap", "k", "n_values")
_MEANT = fields(MeaningSums)


def pack(sums: Sums) -> tuple[Arrays, dict[str, Any]]:
    """The sums as arrays by name, and what JSON has to say of them.

    ``errors`` is [2, 2, P, N, S, A]: absolute and squared, native and normalized, by segment and
    by whose they are (``who`` in the header).
    """
    measure, segments = sums.measure, sums.segments
    tasks = tuple(dict.fromkeys(segments.task))
    place = {task: i for i, task in enumerate(tasks)}
    header = {
        "version": _VERSION,
        "names": list(measure.schema.names),
        "units": list(measure.schema.units),
        "horizon": measure.horizon,
        "n_action_steps": measure.n_action_steps,
        "fps": measure.fps,
        "action_kind": measure.action_kind,
        "ensembled": measure.ensembled,
        "meanings": [vars(m) for m in measure.schema.meanings],
        "stats": list(measure.stats),
        "who": list(sums.who),
        "tasks": list(tasks),
    }
    arrays: Arrays = {
        "stats": np.array([measure.stats[name] for name in measure.stats]),
        "episode": segments.episode,
        "task": np.array([place[task] for task in segments.task], dtype=np.int64),
        "n_frames": segments.n_frames,
        "errors": np.moveaxis(segments.errors, 0, 2),
        "count": segments.count,
        "target": np.moveaxis(segments.target, 0, 1),
        "in_range": sums.in_range,
    }
    if (segments.weight != 1).any():
        arrays["weight"] = segments.weight
    arrays |= _packed_shapes(sums.shapes) | _packed_samples(sums.samples)
    return arrays | _packed_meanings(sums.meanings), header


def _packed_shapes(shapes: Sequence[EpisodeShape]) -> Arrays:
    arrays: Arrays = {
        f"shape.{name}": np.array(
            [getattr(s, name) for s in shapes], np.int64 if name in _WHOLE else np.float64
        )
        for name in _SCALARS
    }
    for name in _LISTS:
        parts = [getattr(s, name) for s in shapes]
        arrays[f"shape.{name}"] = np.concatenate([np.zeros(0), *parts])
        arrays[f"shape.{name}.length"] = np.array([len(p) for p in parts], dtype=np.int64)
    return arrays


def _packed_samples(samples: Sequence[SampleSums]) -> Arrays:
    if not samples:
        return {}
    arrays: Arrays = {
        f"sample.{name}": np.array(
            [getattr(s, name) for s in samples], np.int64 if name in _WHOLE else np.float64
        )
        for name in _SAMPLED
    }
    return arrays | {"sample.squared_each": np.stack([s.squared_each for s in samples])}


def _packed_meanings(sums: Sequence[MeaningSums]) -> Arrays:
    if not sums:
        return {}
    return {f"meaning.{f.name}": np.array([getattr(s, f.name) for s in sums]) for f in _MEANT}


# ── and back ──────────────────────────────────────────────────────────


def unpack(arrays: Mapping[str, NDArray[Any]], header: Mapping[str, Any]) -> Sums:
    """The sums that `pack` was given.

    Args:
        arrays: by name.
        header: beside them.

    Raises:
        OutputError: something is missing, of another shape or type, or of another version.
    """
    try:
        return _unpacked(arrays, header)
    except (
        KeyError,
        TypeError,
        ValueError,
        IndexError,
        AttributeError,
        OverflowError,
        InputError,
    ) as error:
        raise OutputError(
            "stored sums",
            expected="those that this version writes",
            found=f"{type(error).__name__}: {error}"[:200],
            fix="evaluate again with this version",
        ) from error


def _unpacked(arrays: Mapping[str, NDArray[Any]], header: Mapping[str, Any]) -> Sums:
    if header["version"] not in (1, _VERSION):
        raise ValueError(f"version {header['version']!r}")
    names, units = _texts(header["names"]), _texts(header["units"])
    schema = ActionSchema(names, units, stored_meanings(header.get("meanings", []), len(names)))
    who, tasks, dim = _texts(header["who"]), _texts(header["tasks"]), schema.dim
    named, n = _texts(header["stats"]), len(arrays["episode"])
    stats = _of(arrays, "stats", (len(named), dim))
    measure = Measure(
        schema,
        dict(zip(named, stats, strict=True)),
        int(header["horizon"]),
        int(header["n_action_steps"]),
        float(header["fps"]),
        str(header["action_kind"]),
        bool(header["ensembled"]),
    )
    steps = measure.n_steps
    measure.normalizer()  # raises where statistics are missing
    errors = _of(arrays, "errors", (2, 2, n, len(who), steps, dim))
    count = _of(arrays, "count", (n, steps))
    target = _of(arrays, "target", (2, n, steps, dim)).copy()
    seen = _of(arrays, "in_range", (3 if len(arrays["in_range"]) == 3 else 5, dim))
    seen = np.concatenate([seen, np.zeros((5 - len(seen), dim))])
    if header["version"] == 1:  # about 0, not about the dataset's mean
        mean, n_each = measure.stats["mean"], count[..., None]
        target[1] += mean * (mean * n_each - 2 * target[0])
        target[0] -= mean * n_each
    episode, task, frames = (
        _of(arrays, name, (n,), whole=True) for name in ("episode", "task", "n_frames")
    )
    weight = _of(arrays, "weight", (n,)) if "weight" in arrays else np.ones(n)
    if not ((weight >= 1) & np.isfinite(weight)).all():
        raise ValueError("frames that stand for less than themselves")
    if n and (task.min() < 0 or len(who) == 0):
        raise ValueError("a segment without task or policy")

    segments = Segments(
        who,
        tuple(tasks[i] for i in task.tolist()),
        episode,
        frames,
        weight,
        np.moveaxis(errors, 2, 0),
        count,
        np.moveaxis(target, 1, 0),
    )
    n_episodes = len(set(episode.tolist()))
    shapes, samples = _shapes(arrays, n_episodes), _samples(arrays, n_episodes)
    meanings = _meanings(arrays, measure, who, n_episodes)
    return Sums(measure, segments, shapes, samples, seen, meanings)


def _shapes(arrays: Mapping[str, NDArray[Any]], n: int) -> tuple[EpisodeShape, ...]:
    known = {
        name: _of(arrays, f"shape.{name}", (n,), whole=name in _WHOLE).tolist() for name in _SCALARS
    }
    lists = dict[str, list[FloatArray]]()
    for name in _LISTS:
        length = _of(arrays, f"shape.{name}.length", (n,), whole=True)
        if (length < 0).any():
            raise ValueError(f"shape.{name} of negative length")
        flat = _of(arrays, f"shape.{name}", (int(length.sum()),))
        ends = [0, *length.cumsum().tolist()]
        lists[name] = [flat[a:b] for a, b in pairwise(ends)]
    every: dict[str, list[Any]] = known | lists
    return tuple(EpisodeShape(**{k: v[i] for k, v in every.items()}) for i in range(n))


def _samples(arrays: Mapping[str, NDArray[Any]], n: int) -> tuple[SampleSums, ...]:
    if "sample.k" not in arrays:
        return ()
    every: dict[str, list[Any]] = {
        name: _of(arrays, f"sample.{name}", (n,), whole=name in _WHOLE).tolist()
        for name in _SAMPLED
    }
    k = every["k"][0] if n else 0
    if set(every["k"]) - {k} or (n and k < 2):
        raise ValueError("samples of different number")
    every["squared_each"] = list(_of(arrays, "sample.squared_each", (n, k)))
    return tuple(SampleSums(**{name: v[i] for name, v in every.items()}) for i in range(n))


def _meanings(
    arrays: Mapping[str, NDArray[Any]], measure: Measure, who: tuple[str, ...], n: int
) -> tuple[MeaningSums, ...]:
    p = len(measure.schema.meanings)
    if not p or not n:
        return ()
    table = (n, len(who), p, measure.n_steps)
    shapes: dict[str, tuple[int, ...]] = {
        "n_frames": (n,),
        "count": (n, measure.n_steps),
        "error": table,
        "ends": (n, p, 2),
        "outcomes": (*table, len(OUTCOMES)),
        "events": (n, p, len(EVENTS)),
    }
    every: dict[str, Any] = {
        name: _of(arrays, f"meaning.{name}", shape, whole=name in _WHOLE)
        for name, shape in shapes.items()
    }
    every["n_frames"] = every["n_frames"].tolist()
    return tuple(MeaningSums(**{name: v[i] for name, v in every.items()}) for i in range(n))


def _of(
    arrays: Mapping[str, NDArray[Any]], name: str, shape: tuple[int, ...], *, whole: bool = False
) -> NDArray[Any]:
    array, kind = arrays[name], np.int64 if whole else np.float64
    if array.dtype != kind or array.shape != shape:
        raise ValueError(f"{name} is {array.dtype} of shape {array.shape}, not {shape}")
    return array


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        raise TypeError(f"{values!r} is no list of texts"[:100])
    return tuple(values)
