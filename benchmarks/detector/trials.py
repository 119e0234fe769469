"""The detector's confusion matrix on real networks: every mistake, by policy and by episodes.

python benchmarks/detector/networks.py --datasets DIR --output_dir NETS   # trains, stores
python benchmarks/detector/trials.py --datasets DIR --nets NETS           # prints Markdown
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from faults import FAULTS, Case
from networks import DATA, KINDS

from policyscope.actions.spaces import ActionSchema, NativeActions, Normalizer
from policyscope.checks.detector.decide import MIN_EPISODES, judge
from policyscope.checks.detector.findings import ERRORS
from policyscope.checks.detector.hypotheses import Declared, Sample
from policyscope.checks.detector.statistics import spearman
from policyscope.config import DatasetConfig, PolicyConfig
from policyscope.data.facts import DatasetFacts
from policyscope.data.source import FrameSource
from policyscope.policies.reading import read_checkpoint

EPISODES = (2, 3, 4, 8)
MARKERS = ("<!-- tables -->", "<!-- end of tables -->")
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
        std = np.asarray(self.facts.robot.stats["action"]["std"]).reshape(-1)
        distinct = np.array([len(np.unique(column)) > 8 for column in actions.T])
        return (within > 0.3 * std) & distinct


def networks(nets: Path, datasets: Path, fold: str) -> Iterator[Network]:
    for data, kind in itertools.product(DATA, KINDS):
        folder = nets / f"{data}-{kind}-{DATA[data].report if fold == 'report' else fold}"
        if not (folder / "predictions.npz").is_file():
            print(f"{folder.name}: not trained", file=sys.stderr)
            continue
        source = FrameSource(DatasetConfig(root=str(datasets / DATA[data].folder)), repo_id=data)
        checkpoint = read_checkpoint(PolicyConfig(path=str(folder)))
        assert checkpoint.unnormalizer is not None
        door = Normalizer.from_stats(
            checkpoint.unnormalizer.stats,
            mode=checkpoint.action_mode,
            units=source.facts.robot.actions.units,
        )
        arrays = dict(np.load(folder / "predictions.npz"))
        yield Network(data, kind, fold, source.facts, door, arrays)


def sampled(
    network: Network, n_episodes: int, draw: np.random.Generator
) -> tuple[Case, np.ndarray, np.ndarray]:
    """A case on some episodes' frames, spread over each; their padding and episode indices."""
    episode = network.arrays["episode"]
    chosen = draw.choice(np.unique(episode), n_episodes, replace=False)
    rows = []
    for e in chosen:
        own = np.flatnonzero(episode == e)
        edges = np.linspace(0, len(own), FRAMES + 1)
        rows.append(own[draw.uniform(edges[:-1], edges[1:]).astype(int)])
    at = np.concatenate(rows)
    target, units = network.arrays["target"][at], network.facts.robot.actions.units
    state = network.arrays["state"][at]
    case = Case(
        network.arrays["predicted"][at],
        target,
        state if state.shape[1] == target.shape[2] else None,
        network.door,
        {k: np.asarray(v).reshape(-1) for k, v in network.facts.robot.stats["action"].items()},
        np.array([unit == "rad" for unit in units]),
        network.moving,
    )
    return case, network.arrays["is_pad"][at], episode[at]


def trial(network: Network, fault: str, n_episodes: int, seed: int) -> str:
    """The verdict on one injected mistake."""
    draw = np.random.default_rng([seed, n_episodes, sorted(FAULTS).index(fault)])
    case, is_pad, episode = sampled(network, n_episodes, draw)
    case = FAULTS[fault][0](case, draw)
    units = network.facts.robot.actions.units
    if fault == "radians":
        units = tuple("deg" if angle else u for u, angle in zip(units, case.angles, strict=True))
    door = Normalizer(
        case.door.offset, case.door.scale, case.door.divisor, units, case.door.stats_id
    )
    declared = Declared(
        ActionSchema(network.facts.robot.actions.names, units),
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
        return "rad" in network.facts.robot.actions.units
    if fault == "delta":
        return network.arrays["state"].shape[1] == network.arrays["target"].shape[2]
    return True


def count(nets: list[Network], n_trials: int) -> dict[tuple[str, str, str, int], Counter[str]]:
    """(mistake, dataset, policy, episodes) → how often each verdict came."""
    table: dict[tuple[str, str, str, int], Counter[str]] = {}
    for network, fault, n in itertools.product(nets, FAULTS, EPISODES):
        if not applies(fault, network) or n > len(np.unique(network.arrays["episode"])):
            continue
        more = 4 if fault == "clean" else 1  # false alarms are rare: count them with care
        verdicts = Counter(trial(network, fault, n, seed) for seed in range(more * n_trials))
        table[fault, network.data, network.kind, n] = verdicts
    return table


Table = dict[tuple[str, str, str, int], Counter[str]]
QUIET = {"clear", "too_little"}


def share(counts: Iterable[Counter[str]], wanted: set[str] | None) -> str:
    """Percentage of the given verdicts; None stands for any alarm."""
    every = [(code, n) for c in counts for code, n in c.items()]
    total = sum(n for _, n in every)
    hit = sum(n for code, n in every if (code not in QUIET if wanted is None else code in wanted))
    return f"{100 * hit / total:.1f}" if total else "–"


def pick(table: Table, *, least: int = MIN_EPISODES, **wanted: Any) -> list[Counter[str]]:
    """The counts of some mistakes, datasets, policies or sizes."""
    names = ("fault", "data", "kind", "episodes")
    return [
        counts
        for key, counts in table.items()
        if key[3] >= (0 if "episodes" in wanted else least)
        and all(key[names.index(name)] == value for name, value in wanted.items())
    ]


def rows(head: list[str], body: list[list[str]]) -> str:
    """A Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(line) + " |" for line in body])


def report(nets: list[Network], table: Table) -> str:
    """All tables as Markdown."""
    parts = [
        "### The networks",
        rows(*_networks(nets)),
        f"### Trials with {MIN_EPISODES} or more episodes",
    ]
    groups = list(dict.fromkeys((n.data, n.kind) for n in nets))
    body = []
    for fault, (_, exact) in FAULTS.items():
        counts = pick(table, fault=fault)
        n = sum(sum(c.values()) for c in counts)
        exact_share = "" if fault == "clean" else share(counts, {exact})
        cells = [c for d, k in groups if (c := pick(table, fault=fault, data=d, kind=k))]
        alarmed = sum(share(c, None) != "0.0" for c in cells)
        errors = sum(share(c, set(ERRORS)) != "0.0" for c in cells)
        body.append(
            [
                fault,
                str(n),
                *(exact_share, share(counts, None), share(counts, set(ERRORS))),
                *(f"{k} of {len(cells)}" for k in (alarmed, errors)),
            ]
        )
    head = ["mistake", "trials", "exact %", "any alarm %", "severity error %"]
    parts.append(rows([*head, "networks with an alarm", "with an error"], body))
    parts.append("### By policy and dataset: exact % / any alarm %")
    body = []
    for fault, (_, exact) in FAULTS.items():
        cells = [pick(table, fault=fault, data=d, kind=k) for d, k in groups]
        body.append(
            [fault, *(f"{share(c, {exact})} / {share(c, None)}" if c else "–" for c in cells)]
        )
    parts.append(rows(["mistake", *(f"{d} {k}" for d, k in groups)], body))
    parts.append("### By number of episodes: exact % / any alarm %")
    body = []
    for fault, (_, exact) in FAULTS.items():
        cells = [pick(table, fault=fault, episodes=n) for n in EPISODES]
        body.append(
            [fault, *(f"{share(c, {exact})} / {share(c, None)}" if c else "–" for c in cells)]
        )
    parts.append(rows(["mistake", *map(str, EPISODES)], body))
    parts.append(f"### Verdicts, counted, with {MIN_EPISODES} or more episodes")
    verdicts = ["clear", *dict.fromkeys(exact for _, exact in FAULTS.values() if exact != "clear")]
    verdicts.append("suspect_unexplained")
    body = []
    for fault in FAULTS:
        total: Counter[str] = sum(pick(table, fault=fault), Counter())
        body.append([fault, *(str(total[v] or "") for v in verdicts)])
    head = [v.removeprefix("suspect_").replace("_", " ") for v in verdicts]
    parts.append(rows(["mistake", *head], body))
    return "\n\n".join(parts) + "\n"


def _networks(nets: list[Network]) -> tuple[list[str], list[list[str]]]:
    body = []
    for net in nets:
        first, target = net.arrays["predicted"][:, 0], net.arrays["target"][:, 0]
        std = np.asarray(net.facts.robot.stats["action"]["std"]).reshape(-1)
        error = float((np.abs(first - target) / std).mean())
        rho = np.diag(spearman(first, target))[net.moving]
        body.append(
            [
                net.data,
                net.kind,
                str(len(np.unique(net.arrays["episode"]))),
                f"{error:.2f}",
                f"{np.median(rho):.2f}",
            ]
        )
    head = ["dataset", "policy", "unseen episodes", "step-1 error in std", "rank correlation"]
    return head, body


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--datasets", type=Path, required=True)
    parser.add_argument("--nets", type=Path, required=True)
    parser.add_argument("--fold", default="report", help="or a, b: thresholds were tuned on these")
    parser.add_argument("--trials", type=int, default=50, help="a network, mistake and size")
    parser.add_argument("--write", type=Path, help="a Markdown file with the two markers")
    args = parser.parse_args()
    nets = list(networks(args.nets, args.datasets, args.fold))
    text = report(nets, count(nets, args.trials))
    print(text)
    if args.write:
        before, rest = args.write.read_text().split(MARKERS[0])
        after = rest.split(MARKERS[1])[1]
        args.write.write_text(f"{before}{MARKERS[0]}\n\n{text}\n{MARKERS[1]}{after}")


if __name__ == "__main__":
    main()
