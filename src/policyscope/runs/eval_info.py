"""``eval_info.json`` as ``lerobot-eval`` writes it, in all of its forms.

Until 0.3 it holds a list ``per_episode`` with the seeds, and averages under ``aggregated``; since
then a list ``per_task`` of columns, without seeds, and averages under ``per_group`` and
``overall``; newer ones add ``n_success`` and ``pc_success_ci95``, Wilson's interval in per cent.
The averages are held against the episodes: where they differ, one of them was edited.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from policyscope.errors import InputError, OutputError
from policyscope.files import Door
from policyscope.runs.directory import EVAL_INFO
from policyscope.runs.labelled import MOST_EPISODES, Labelled

_DOOR = Door(OutputError, "give the file, or the --output_dir of lerobot-eval")
_MOST_BYTES = 128 << 20
_MOST_SEED = 2**62
_EXPECTED = "the eval_info.json of lerobot-eval"
_SHARE, _REWARD = 0.06, 1e-3  # that averages were rounded by: per cent, and of the reward


def eval_info_file(path: Path) -> Path:
    """The file that a path names: itself, or the one in that directory."""
    return path / EVAL_INFO if path.is_dir() else path


def read_episodes(path: Path, *, start_seed: int | None = None) -> list[Labelled]:
    """The episodes of an ``eval_info.json``, in its order.

    Args:
        path: the file, or the directory that holds it.
        start_seed: seed of each task's first episode, where the file holds none.

    Raises:
        OutputError: no such file, not one of lerobot's, or its averages are not those of its
            episodes.
    """
    file = eval_info_file(path)
    content = _DOOR.object(file, most=_MOST_BYTES, finite=False)
    try:
        if isinstance(content.get("per_task"), list):
            episodes = list(_by_task(content["per_task"], start_seed))
            averages = content.get("overall")
        elif isinstance(content.get("per_episode"), list):
            episodes = list(_one_by_one(content["per_episode"], start_seed))
            averages = content.get("aggregated")
        else:
            raise ValueError("averages alone" if content else "nothing")
        _require_some(episodes)
        if isinstance(averages, dict):
            _require_averages(averages, episodes)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        found = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise _refused(file, found) from error
    return episodes


def _refused(file: Path, found: str) -> InputError:
    return _DOOR.refuse(
        file, expected=f"{_EXPECTED}, with per_task or per_episode", found=found[:200]
    )


def _by_task(tasks: Sequence[Any], start_seed: int | None) -> Iterator[Labelled]:
    for task in tasks:
        group, number = str(task["task_group"])[:200], _whole(task["task_id"], "task_id")
        known = task["metrics"]
        columns = [_column(known, key) for key in ("successes", "max_rewards", "sum_rewards")]
        for i, (success, best, total) in enumerate(zip(*columns, strict=True)):
            yield Labelled(
                _outcome(success),
                group,
                number,
                seed=None if start_seed is None else start_seed + i,
                max_reward=_number(best, "max_rewards"),
                sum_reward=_number(total, "sum_rewards"),
            )


def _column(known: Mapping[str, Any], key: str) -> Sequence[Any]:
    values = known[key]
    if not isinstance(values, list):
        raise ValueError(f"{key} that is no list of episodes")
    return values


def _one_by_one(rows: Sequence[Any], start_seed: int | None) -> Iterator[Labelled]:
    seen = set()
    for i, row in enumerate(rows):
        index = _whole(row.get("episode_ix", i), "episode_ix")
        if index in seen:
            raise ValueError(f"episode_ix {index} twice")
        seen.add(index)
        seed = row.get("seed")
        if seed is None and start_seed is not None:
            seed = start_seed + i
        yield Labelled(
            _outcome(row["success"]),
            seed=None if seed is None else _whole(seed, "seed"),
            max_reward=_number(row.get("max_reward"), "max_reward"),
            sum_reward=_number(row.get("sum_reward"), "sum_reward"),
        )


def _outcome(value: Any) -> bool | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool) or value in (0, 1):
        return bool(value)
    raise ValueError(f"a success of {value!r:.40}, neither true nor false")


def _number(value: Any, key: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r:.40} among {key}")
    return float(value) if math.isfinite(value) else None


def _whole(value: Any, key: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_SEED:
        return value
    raise ValueError(f"{value!r:.40} as {key}")


def _require_some(episodes: Sequence[Labelled]) -> None:
    if not 0 < len(episodes) <= MOST_EPISODES:
        raise ValueError(f"{len(episodes)} episodes")
    said = [e.success is not None for e in episodes]
    if any(said) and not all(said):
        raise ValueError("successes of some episodes only")
    keys = [(e.task_group, e.task_id, e.seed) for e in episodes if e.seed is not None]
    if len(set(keys)) < len(keys):
        raise ValueError("a seed twice in one task")


def _require_averages(known: Mapping[str, Any], episodes: Sequence[Labelled]) -> None:
    """Raise where the averages of a file are not those of its episodes."""
    n, k = len(episodes), sum(bool(e.success) for e in episodes)
    rewards = [e.max_reward for e in episodes]
    spoken = episodes[0].success is not None
    best = None if None in rewards else math.fsum(r for r in rewards if r is not None) / n
    for key, own, room in (
        ("n_episodes", n, 0.0),
        ("n_success", k if spoken else None, 0.0),
        ("pc_success", 100 * k / n if spoken else None, _SHARE),
        ("avg_max_reward", best, _REWARD * max(1.0, abs(best or 0.0))),
    ):
        said = _number(known.get(key), key)
        if said is not None and own is not None and abs(said - own) > room:
            raise ValueError(f"{key} {said:g} where its episodes give {own:g}")


def without_seeds(episodes: Sequence[Labelled]) -> list[Labelled]:
    """The same episodes, none with a seed: where some lack it, the others pair nothing."""
    return [replace(episode, seed=None) for episode in episodes]
