"""The detector's confusion matrix on real networks: every mistake, by policy and by episodes.

python benchmarks/detector/networks.py --datasets DIR --output_dir NETS   # trains, stores
python benchmarks/detector/trials.py --datasets DIR --nets NETS           # prints Markdown
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from faults import FAULTS, Case
from networks import DATA, KINDS

from policyscope.checkpoint import read_checkpoint
from policyscope.config import DatasetConfig, PolicyConfig
from policyscope.detector.decide import judge
from policyscope.detector.findings import ERRORS
from policyscope.detector.hypotheses import Declared, Sample
from policyscope.facts import DatasetFacts
from policyscope.frames import FrameSource
from policyscope.spaces import ActionSchema, NativeActions, Normalizer

EPISODES = (1, 2, 3, 5, 8)
FRAMES = 32


@dataclass(frozen=True)
class Network:
    """A trained network's native predictions on episodes it never saw."""

    data: str
    kind: str
    fold: str
    facts: DatasetFacts
    door: Normalizer
    arrays: dict[str, np.ndarray]

    @cached_property
    def moving(self) -> np.ndarray:
        """[A] dims that move within episodes; flipping a resting joint would change nothing."""
        episode, actions = self.arrays["episode"], self.arrays["target"][:, 0]
        within = np.mean([actions[episode == e].std(axis=0) for e in np.unique(episode)], axis=0)
        std = np.asarray(self.facts.stats["action"]["std"]).reshape(-1)
        distinct = np.array([len(np.unique(column)) > 8 for column in actions.T])
        return (within > 0.3 * std) & distinct


def networks(nets: Path, datasets: Path, fold: str) -> Iterator[Network]:
    for data, kind in itertools.product(DATA, KINDS):
        folder = nets / f"{data}-{kind}-{fold}"
        if not (folder / "predictions.npz").is_file():
            print(f"<!-- {folder.name}: not trained -->")
            continue
        source = FrameSource(DatasetConfig(root=str(datasets / DATA[data].folder)), repo_id=data)
        checkpoint = read_checkpoint(PolicyConfig(path=str(folder)))
        assert checkpoint.unnormalizer is not None
        door = Normalizer.from_stats(
            checkpoint.unnormalizer.stats,
            mode=checkpoint.action_mode,
            units=source.facts.actions.units,
        )
        arrays = dict(np.load(folder / "predictions.npz"))
        yield Network(data, kind, fold, source.facts, door, arrays)


def sampled(
    network: Network, n_episodes: int, draw: np.random.Generator
) -> tuple[Case, np.ndarray, np.ndarray]:
    """A case on some episodes' frames, evenly spaced; their padding and episode indices."""
    episode = network.arrays["episode"]
    chosen = draw.choice(np.unique(episode), n_episodes, replace=False)
    rows = []
    for e in chosen:
        own = np.flatnonzero(episode == e)
        rows.append(own[np.linspace(0, len(own) - 1, FRAMES).astype(int)])
    at = np.concatenate(rows)
    target, units = network.arrays["target"][at], network.facts.actions.units
    state = network.arrays["state"][at]
    case = Case(
        network.arrays["predicted"][at],
        target,
        state if state.shape[1] == target.shape[2] else None,
        network.door,
        {k: np.asarray(v).reshape(-1) for k, v in network.facts.stats["action"].items()},
        np.array([unit == "rad" for unit in units]),
        network.moving,
    )
    return case, network.arrays["is_pad"][at], episode[at]


def trial(network: Network, fault: str, n_episodes: int, seed: int) -> str:
    """The verdict on one injected mistake."""
    draw = np.random.default_rng([seed, n_episodes, sorted(FAULTS).index(fault)])
    case, is_pad, episode = sampled(network, n_episodes, draw)
    case = FAULTS[fault][0](case, draw)
    units = network.facts.actions.units
    if fault == "radians":
        units = tuple("deg" if angle else u for u, angle in zip(units, case.angles, strict=True))
    door = Normalizer(
        case.door.offset, case.door.scale, case.door.divisor, units, case.door.stats_id
    )
    declared = Declared(
        ActionSchema(network.facts.actions.names, units),
        door,
        case.stats["std"],
        case.stats["min"],
        case.stats["max"],
    )
    sample = Sample(
        NativeActions(case.predicted, units),
        NativeActions(case.target, units),
        is_pad,
        episode,
        case.state,
    )
    return judge(sample, declared).code


def applies(fault: str, network: Network) -> bool:
    """Angles need angles; displacements a state with the action's dims."""
    if fault in ("degrees", "radians"):
        return "rad" in network.facts.actions.units
    if fault == "delta":
        return network.arrays["state"].shape[1] == network.arrays["target"].shape[2]
    return True


def count(nets: list[Network], n_trials: int) -> dict[tuple[str, str, str, int], Counter[str]]:
    """(mistake, dataset, policy, episodes) → how often each verdict came."""
    table: dict[tuple[str, str, str, int], Counter[str]] = {}
    for network, fault, n in itertools.product(nets, FAULTS, EPISODES):
        if not applies(fault, network) or n > len(np.unique(network.arrays["episode"])):
            continue
        verdicts = Counter(trial(network, fault, n, seed) for seed in range(n_trials))
        table[fault, network.data, network.kind, n] = verdicts
    return table


def share(counts: list[Counter[str]], wanted: set[str] | None) -> str:
    """Percentage of the given verdicts (None: any alarm), with the number of trials."""
    total = sum(sum(c.values()) for c in counts)
    if not total:
        return "–"
    hit = sum(
        v
        for c in counts
        for k, v in c.items()
        if (k in wanted if wanted is not None else k not in QUIET)
    )
    return f"{100 * hit / total:.1f}"


QUIET = {"clear", "too_little"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--datasets", type=Path, required=True)
    parser.add_argument("--nets", type=Path, required=True)
    parser.add_argument("--fold", default="b", help="a: thresholds were tuned on it")
    parser.add_argument("--trials", type=int, default=100, help="a network, mistake and size")
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    nets = list(networks(args.nets, args.datasets, args.fold))
    table = count(nets, args.trials)
    if args.verbose:
        for key, verdicts in table.items():
            if key[3] in (3, 8):
                print(*key, dict(verdicts))
    for fault, (_, exact) in FAULTS.items():
        cells = [[c for k, c in table.items() if k[0] == fault and k[3] == n] for n in EPISODES]
        print(fault, [(share(c, {exact}), share(c, None), share(c, set(ERRORS))) for c in cells])


if __name__ == "__main__":
    main()
