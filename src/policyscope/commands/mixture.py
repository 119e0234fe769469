"""One policy on several datasets, a run each."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence

from policyscope.commands.session import Run, output_dir, policy_name
from policyscope.config import EvalConfig
from policyscope.errors import InputError, RefusedError, visible
from policyscope.files import write_text
from policyscope.metrics.mixture import Mixture, Part
from policyscope.runs.content import OfflineRecord

MIXTURE = "mixture.json"


def evaluate_mixture(
    configs: Sequence[EvalConfig], run: Callable[[int, EvalConfig], Run[OfflineRecord]]
) -> Mixture:
    """Evaluate a policy on several datasets, one after the other.

    A dataset that is refused, or can't be read, does not keep the others from being evaluated.

    Args:
        configs: a dataset each; ``output_dir`` is of all of them together.
        run: evaluates one: its place and its config.

    Raises:
        InputError: no dataset could be evaluated; what the first one lacks.
    """
    name = policy_name(configs[0].policy) + "_mixture"
    directory = output_dir(configs[0].output_dir, name, several=True)
    names = _names([config.dataset_name for config in configs])
    parts: list[Part] = []
    first: InputError | RefusedError | None = None
    for place, (config, name) in enumerate(zip(configs, names, strict=True)):
        path = directory / name
        one = dataclasses.replace(config, output_dir=str(path))
        try:
            done = run(place, one)
        except (InputError, RefusedError) as error:
            first = first or error
            parts.append(Part(config.dataset_name, path, why=str(error)))
        else:
            parts.append(Part(config.dataset_name, path, done.record))
    if first is not None and all(part.record is None for part in parts):
        raise first
    mixture = Mixture(directory, tuple(parts))
    text = json.dumps(mixture.to_json(), indent=1, ensure_ascii=False, allow_nan=False)
    write_text(directory / MIXTURE, text + "\n")
    return mixture


def _names(names: Sequence[str]) -> list[str]:
    """Names of directories, each once."""
    plain = [visible(name).replace("/", "_").replace("\\", "_").strip(".") or "d" for name in names]
    return [f"{name}-{i + 1}" if plain.count(name) > 1 else name for i, name in enumerate(plain)]
