"""The episodes as a collection: copies, outliers, and the tasks that they are of."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from policyscope.actions.spaces import FloatArray
from policyscope.checks.trial.looks import Look, Recordings, leaving_out, some
from policyscope.errors import Finding
from policyscope.metrics.recordings import nearest, paths

_COPY = 0.01  # std: nearer than any two demonstrations of a hand
_ODD = 3.0  # times the median distance
_LENGTH = 4.0  # times the median, or that part of it
_MANY = 10  # episodes without which none is odd
_MOST = 20_000  # episodes that are held against each other
_SHORT_S = 0.5


def distances(known: Recordings) -> tuple[FloatArray, list[int]]:
    """[E] how far each episode is from the one nearest to it, in std, and which that is."""
    values = known.actions
    if not 2 <= len(values) <= _MOST or not (known.extent.std > 0).any():
        return np.full(len(values), np.nan), [-1] * len(values)
    apart, whose = nearest(paths(values, known.extent.std))
    return apart, [known.number(int(place)) for place in whose]


def look_at_copies(known: Recordings, apart: FloatArray, whose: list[int]) -> Look:
    """Episodes that are there twice: held-out ones would not be held out."""
    near = np.flatnonzero(apart < _COPY)
    episodes = [known.number(int(place)) for place in near]
    pairs = {tuple(sorted((known.number(int(p)), whose[p]))) for p in near}
    findings: tuple[Finding, ...] = ()
    if pairs:
        shown = ", ".join(f"{a} and {b}" for a, b in sorted(pairs)[:4])
        findings = (
            Finding(
                "episodes_copied",
                "warning",
                f"expected episodes that differ; found {len(pairs)} pairs whose actions are within "
                f"{_COPY} std of each other all along ({shown}). An episode that is held out may "
                "have been trained on.",
                "lerobot-edit-dataset --operation.type delete_episodes removes one of each",
            ),
        )
    if np.isnan(apart).all():
        return Look("copies", "too few episodes that move, or too many", there=False)
    return Look(
        "copies",
        "the two nearest of {n} episodes are {apart} std apart",
        {"n": len(apart), "apart": f"{np.nanmin(apart):.2g}"},
        findings,
        episodes=tuple(sorted(episodes)),
    )


def look_at_outliers(known: Recordings, apart: FloatArray) -> Look:
    """Episodes that are much longer, shorter, or elsewhere than the others."""
    lengths = np.array([episode.length for episode in known.episodes], float)
    usual, fps = float(np.median(lengths)), known.source.facts.robot.fps
    odd: dict[int, str] = {}
    for place, episode in enumerate(known.episodes):
        ratio = lengths[place] / usual
        usual_length = len(lengths) < _MANY or 1 / _LENGTH <= ratio <= _LENGTH
        if not usual_length or lengths[place] < min(_SHORT_S * fps, usual / 2):
            odd[episode.index] = f"{episode.length} frames"
        elif len(lengths) >= _MANY and apart[place] > _ODD * np.nanmedian(apart):
            odd[episode.index] = f"{apart[place]:.2g} std from the nearest other"
    findings: tuple[Finding, ...] = ()
    if odd:
        shown = "; ".join(f"episode {e}: {why}" for e, why in list(odd.items())[:4])
        findings = (
            Finding(
                "episodes_outlying",
                "warning",
                f"expected episodes like the others (median {usual:g} frames, "
                f"{np.nanmedian(apart) if len(apart) > 1 else 0:.2g} std from the nearest other); "
                f"found {len(odd)} of {len(lengths)} that are not ({shown}).",
                leaving_out(odd),
            ),
        )
    return Look(
        "outliers",
        "{low} to {high} frames, median {median}",
        {"low": f"{lengths.min():g}", "high": f"{lengths.max():g}", "median": f"{usual:g}"},
        findings,
        episodes=tuple(sorted(odd)),
    )


def look_at_tasks(known: Recordings) -> Look:
    """Whether each frame has a text, and each text frames."""
    texts: dict[str, set[int]] = defaultdict(set)
    for episode in known.episodes:
        for text in set(episode.tasks):
            texts[text].add(episode.index)
    findings = []
    empty = {e for text, episodes in texts.items() if not text.strip() for e in episodes}
    if empty:
        findings.append(
            Finding(
                "task_without_text",
                "warning",
                f"expected a text for each task; found none in {len(empty)} of "
                f"{len(known.episodes)} episodes ({some(empty)}). Policies that read would be "
                "given an empty instruction.",
                "add the text to meta/tasks.parquet",
            )
        )
    alike: dict[str, set[str]] = defaultdict(set)
    for text in texts:
        alike[" ".join(text.casefold().split()).rstrip(".")].add(text)
    for same in alike.values():
        if len(same) > 1:
            findings.append(
                Finding(
                    "task_texts_alike",
                    "info",
                    "expected one text for one task; found "
                    + " and ".join(repr(text)[:60] for text in sorted(same)[:3])
                    + ": tables by task count them apart.",
                    "give both the same text, unless they are two tasks",
                )
            )
    unused = set(known.source.facts.task_texts.values()) - set(texts)
    whole = len(known.episodes) == len(known.source.facts.lengths)
    return Look(
        "tasks",
        "{n} with frames, {unused} without" if unused and whole else "{n} with frames",
        {"n": len(texts), "unused": len(unused)},
        tuple(findings),
        episodes=tuple(sorted(empty)),
    )
