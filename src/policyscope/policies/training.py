"""What a checkpoint says about its training, in lerobot's shape or in a fork's.

Nothing is refused here: what can't be understood is unknown, and an unknown split is called that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

_MOST_EPISODES = 10_000_000


@final
@dataclass(frozen=True)
class TrainedOn:
    """A dataset that training used.

    Attributes:
        episodes: that it was told to take; None where it took all.
        eval_split: the fraction of each task's episodes that it held out, the last ones.
        fps: that it was recorded at, where it is said.
    """

    episodes: tuple[int, ...] | None
    eval_split: float
    fps: float | None


@final
@dataclass(frozen=True)
class Training:
    """What ``train_config.json`` says.

    Attributes:
        datasets: repo id → how it was used; None where that can't be understood.
        fps: of the dataset or the environment, or None.
    """

    datasets: Mapping[str, TrainedOn | None]
    fps: float | None = None


def read_training(content: Any) -> Training:
    """The content of ``train_config.json``, of any shape.

    Args:
        content: parsed JSON, or None without a file.
    """
    table = content if isinstance(content, dict) else {}
    entries = table.get("dataset")
    known: dict[str, TrainedOn | None] = {}
    rates = []
    for entry in entries if isinstance(entries, list) else [entries]:
        if isinstance(entry, str):
            known[entry] = TrainedOn(None, 0.0, None) if entry not in known else None
        if not isinstance(entry, dict):
            continue
        used, names = _used(entry), entry.get("repo_id")
        rates.append(used.fps if used else None)
        single = isinstance(names, str)
        for name in [names] if single else names if isinstance(names, list) else []:
            if isinstance(name, str):  # episodes of several sets can't be told apart
                whole = used is not None and used.episodes is None
                known[name] = used if name not in known and (single or whole) else None
    environment = table.get("env")
    if isinstance(environment, dict):
        rates.append(_rate(environment.get("fps")))
    return Training(known, next((rate for rate in rates if rate is not None), None))


def _used(entry: Mapping[str, Any]) -> TrainedOn | None:
    episodes, split = entry.get("episodes"), entry.get("eval_split")
    if episodes is not None and not (
        isinstance(episodes, list)
        and len(episodes) <= _MOST_EPISODES
        and all(isinstance(e, int) and not isinstance(e, bool) for e in episodes)
    ):
        return None
    if split is None:
        split = 0.0
    if isinstance(split, bool) or not isinstance(split, int | float) or not 0 <= split < 1:
        return None
    chosen = None if episodes is None else tuple(episodes)
    return TrainedOn(chosen, float(split), _rate(entry.get("fps")))


def _rate(value: Any) -> float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and math.isfinite(value) and 0 < value < 1e6 else None
