"""What `check` says of networks whose inputs, moments or dims are wrong: found, or passed over.

python benchmarks/detector/networks.py --datasets DIR --output_dir NETS
python benchmarks/detector/networks.py --output_dir NETS --ready CHECKPOINT DATASET 185 197
python benchmarks/detector/looks.py --datasets DIR --nets NETS   # prints Markdown
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from networks import DATA
from trials import MARKERS, rows

from policyscope.actions.spaces import NativeActions, Normalizer
from policyscope.checks.ablation import Input, measured
from policyscope.checks.detector.hypotheses import Declared, Sample
from policyscope.commands.check import looked_at
from policyscope.config import DatasetConfig, PolicyConfig
from policyscope.data.source import FrameSource
from policyscope.errors import Finding
from policyscope.metrics.blind import Blind, Demonstration, Scale
from policyscope.metrics.intervals import Estimate, skill
from policyscope.policies.reading import read_checkpoint

Array = np.ndarray
EPISODES = (3, 4, 8)
LATE = 8
CAMERA, STATE = Input("camera", "camera"), Input("state", "state")
GENERAL = {"suspect_unrelated", "below_trivial", "suspect_unexplained"}
NAMED: dict[str, set[str]] = {
    "other_episode": {"suspect_unrelated"},
    "reversed": {"suspect_reversed"},
    "late_8_frames": {"suspect_late"},
    "frozen_dim": {"suspect_frozen_dim", "suspect_collapsed"},
    "offset_1_std": {"suspect_stats"},
    "scale_2": {"suspect_stats"},
    "scale_half": {"suspect_stats"},
    "black_pictures": {"camera_ignored"},
    "upside_down": {"input_without_use"},
    "other_frame": {"input_without_use", "suspect_unrelated"},
    "raw_state": {"input_without_use"},
    "other_state_stats": {"input_without_use"},
}
INPUT_FAULTS = {"black_pictures", "upside_down", "other_frame", "raw_state", "other_state_stats"}
STATE_FAULTS = {"raw_state", "other_state_stats"}  # suspect_stats says that these look like it
"""Mistake → codes that name it; those of `GENERAL` name its family."""
FACTS = {"out_of_range", "camera_ignored"}  # true of a network, whether or not anything is wrong


@dataclass(frozen=True)
class Network:
    """A network's answers: to every unseen frame, and to some with mistakes in their inputs.

    Attributes:
        name: dataset, policy and fold.
        declared: what its checkpoint says.
        every: `predictions.npz`.
        some: `inputs.npz`.
        trained: episodes that it saw.
        source: its dataset.
    """

    name: str
    declared: Declared
    every: dict[str, Array]
    some: dict[str, Array]
    trained: range
    source: FrameSource

    def places(self, episode: Array, frame: Array) -> Array:
        """Rows of `every` that hold these frames; past an episode's ends, its ends."""
        known = self.every["episode"]
        start = np.searchsorted(known, episode)
        end = np.searchsorted(known, episode, side="right")
        return np.clip(start + frame, start, end - 1)


def networks(nets: Path, datasets: Path) -> Iterator[Network]:
    for folder in sorted(nets.iterdir()):
        if not (folder / "inputs.npz").is_file():
            continue
        if (folder / "ready.json").is_file():
            about = json.loads((folder / "ready.json").read_text())
            path, root, trained = about["checkpoint"], Path(about["dataset"]), range(about["first"])
        else:
            data, _, fold = folder.name.split("-")
            if fold != DATA[data].report:
                continue
            path, root = str(folder), datasets / DATA[data].folder
            trained = DATA[data].train[fold]
        checkpoint = read_checkpoint(PolicyConfig(path=path))
        source = FrameSource(DatasetConfig(root=str(root)), repo_id=root.name)
        robot = source.facts.robot
        assert checkpoint.unnormalizer is not None
        stats = {k: np.asarray(v).reshape(-1) for k, v in robot.stats["action"].items()}
        door = Normalizer.from_stats(
            checkpoint.unnormalizer.stats, mode=checkpoint.action_mode, units=robot.actions.units
        )
        yield Network(
            folder.name,
            Declared(robot.actions, door, stats["std"], stats["min"], stats["max"]),
            dict(np.load(folder / "predictions.npz")),
            dict(np.load(folder / "inputs.npz")),
            trained,
            source,
        )


Turn = Callable[[Network, Array, np.random.Generator], Array]
"""What a mistake makes of [N, H, A] predictions, frame by frame."""


def _dim(network: Network, draw: np.random.Generator) -> int:
    """A dim that moves in the demonstrations."""
    target, episode = network.every["target"][:, 0], network.every["episode"]
    within = np.mean([target[episode == e].std(axis=0) for e in np.unique(episode)], axis=0)
    return int(draw.choice(np.flatnonzero(within > 0.3 * network.declared.std)))


def _frozen(network: Network, values: Array, draw: np.random.Generator) -> Array:
    dim, turned = _dim(network, draw), values.copy()
    turned[..., dim] = values[..., dim].mean()
    return turned


def _moved(network: Network, values: Array, draw: np.random.Generator) -> Array:
    dim, turned = _dim(network, draw), values.copy()
    turned[..., dim] += draw.choice([-1, 1]) * network.declared.std[dim]
    return turned


def _scaled(factor: float) -> Turn:
    def turn(network: Network, values: Array, draw: np.random.Generator) -> Array:
        dim, turned = _dim(network, draw), values.copy()
        middle = network.source.facts.robot.stats["action"]["mean"].reshape(-1)[dim]
        turned[..., dim] = middle + factor * (values[..., dim] - middle)
        return turned

    return turn


TURNS: dict[str, Turn] = {
    "reversed": lambda _network, values, _draw: values[:, ::-1],
    "frozen_dim": _frozen,
    "offset_1_std": _moved,
    "scale_2": _scaled(2.0),
    "scale_half": _scaled(0.5),
}


def look(network: Network, fault: str, n_episodes: int, seed: int) -> list[Finding]:
    """What `check` says of one draw of episodes, with one mistake."""
    draw = np.random.default_rng(
        [seed, n_episodes, list(NAMED).index(fault) if fault in NAMED else 99]
    )
    some = network.some
    chosen = draw.choice(np.unique(some["episode"]), n_episodes, replace=False)
    at = np.flatnonzero(np.isin(some["episode"], chosen))
    episode, frame = some["episode"][at], some["frame"][at]
    given = fault if f"{fault}/own" in some else "clean"
    own, swapped = (
        some[f"{given}/own"][at],
        {one: some[f"{given}/{one.key}"][at] for one in (CAMERA, STATE)},
    )
    if fault == "late_8_frames":
        own, swapped = network.every["predicted"][network.places(episode, frame - LATE)], {}
    if fault == "other_episode":
        own, swapped = network.every["predicted"][_elsewhere(network, episode, frame, draw)], {}
    if fault in TURNS:
        state = draw.bit_generator.state
        for key in (None, *swapped):
            draw.bit_generator.state = state  # the same dim on both sides
            turned = TURNS[fault](network, own if key is None else swapped[key], draw)
            if key is None:
                own = turned
            else:
                swapped[key] = turned
    sample = _sample(network, at, own)
    ablation = measured(swapped, sample, network.declared.std, n_tasks=1) if swapped else None
    return looked_at(sample, network.declared, ablation)


def _elsewhere(network: Network, episode: Array, frame: Array, draw: np.random.Generator) -> Array:
    """The same share of another unseen episode."""
    known, lengths = np.unique(network.every["episode"], return_counts=True)
    length = dict(zip(known.tolist(), lengths.tolist(), strict=True))
    order = draw.permutation(known)
    other = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
    donors = np.array([other[int(e)] for e in episode])
    share = frame / np.array([length[int(e)] for e in episode])
    return network.places(donors, (share * [length[int(e)] for e in donors]).astype(int))


def _sample(network: Network, at: Array, own: Array) -> Sample:
    some, units = network.some, network.declared.schema.units
    target, horizon = some["target"][at], own.shape[1]
    episode, frame = some["episode"][at], some["frame"][at]
    steps = frame[:, None] + np.arange(-horizon, horizon + 1)
    places = np.stack([network.places(episode, step) for step in steps.T], axis=1)
    around = network.every["target"][places, 0]
    outside = network.every["frame"][places] != steps
    state = some["state"][at] if some["state"].shape[1] == target.shape[2] else None
    mean = network.source.facts.robot.stats["action"]["mean"].reshape(-1)
    trivial = {"dataset_mean": np.broadcast_to(mean, target[:, 0].shape)}
    if state is not None:
        trivial["hold_state"] = state
    return Sample(
        NativeActions(own, units),
        NativeActions(target, units),
        some["is_pad"][at],
        episode,
        state,
        np.where(outside[..., None], np.nan, around).astype(np.float32),
        trivial,
    )


# ── tables ────────────────────────────────────────────────────────────


def against_blind(network: Network) -> dict[str, Estimate]:
    """Skill over the chunk, against holding the state and the better of two that learn from it."""
    stats, horizon = network.source.facts.robot.stats, network.every["target"].shape[1]
    scale = Scale.of(stats["observation.state"], stats["action"])

    def seen(index: int) -> Demonstration:
        known = network.source.episode(index)
        assert known.state is not None
        previous = np.concatenate([known.actions.values[:1], known.actions.values[:-1]])
        return Demonstration(index, known.state, known.actions.values, previous)

    blind = Blind([seen(e) for e in network.trained], scale, horizon=horizon)
    episodes = np.unique(network.every["episode"])
    learnt = [blind.chunks(seen(int(e))) for e in episodes]
    target, inside = network.every["target"], ~network.every["is_pad"]
    use = network.declared.std > 1e-6

    def sums(values: Array) -> Array:
        gap = ((values - target)[..., use] / network.declared.std[use]) ** 2
        each = (gap.mean(axis=-1) * inside).sum(axis=1)
        return np.array([each[network.every["episode"] == e].sum() for e in episodes])

    ours = sums(network.every["predicted"])
    rivals = {
        n: sums(np.concatenate([c[n] for c in learnt])) for n in ("ridge_state", "nearest_state")
    }
    best = min(rivals, key=lambda name: rivals[name].sum())
    held = sums(np.broadcast_to(network.every["state"][:, None], target.shape))
    return {"blind": skill(ours, rivals[best]), "hold_state": skill(ours, held)}


def _shown(known: Estimate) -> str:
    ends = "" if known.low is None else f" [{known.low:.2f}, {known.high:.2f}]"
    return f"{known.value:.2f}{ends}"


def count(network: Network, fault: str, n_trials: int) -> tuple[int, int, int, int]:
    """Draws; named; named or of its family; any warning or error."""
    if f"{fault}/own" not in network.some and fault in INPUT_FAULTS:
        return 0, 0, 0, 0
    totals = np.zeros(4, dtype=int)
    for n in sizes(network):
        for seed in range(n_trials):
            found = look(network, fault, n, seed)
            codes = {f.code for f in found}
            alarm = any(f.severity != "info" for f in found)
            named = bool(codes & NAMED[fault])
            family = GENERAL | ({"suspect_stats"} if fault in STATE_FAULTS else set())
            totals += [1, named, named or bool(codes & family), alarm]
    return tuple(totals.tolist())


def sizes(network: Network) -> list[int]:
    """How many episodes a draw may have."""
    return [n for n in EPISODES if n <= len(np.unique(network.some["episode"]))]


def clean(nets: list[Network], skills: dict[str, dict[str, Estimate]], n_trials: int) -> list[str]:
    """What is said of networks with which nothing is wrong."""
    body, errors, named = [], 0, 0
    for net in nets:
        looks = [look(net, "clean", n, seed) for n in sizes(net) for seed in range(n_trials)]
        found = [{f.code: f.severity for f in one if f.severity != "info"} for one in looks]
        kinds = [
            sum(any(f.severity == "error" for f in one) for one in looks),
            sum(bool(one.keys() - GENERAL - FACTS) for one in found),
            sum(bool(one.keys() & GENERAL) for one in found),
            sum(bool(one.keys() & FACTS) for one in found),
        ]
        errors, named = errors + bool(kinds[0]), named + bool(kinds[1])
        codes = sorted(set().union(*found) - GENERAL)
        body.append(
            [
                net.name,
                *(_shown(skills[net.name][name]) for name in ("blind", "hold_state")),
                *(str(kind) for kind in kinds),
                str(len(looks)),
                ", ".join(codes),
            ]
        )
    head = ["network", "skill over blind", "over holding the state", "error", "mistake named"]
    head += ["below trivial", "fact", "draws", "codes"]
    return [
        "### Clean networks",
        rows(head, body),
        f"A mistake was named, in any draw, of {named} of {len(nets)} clean networks; severity "
        f"error was raised for {errors} of {len(nets)}.",
    ]


def mistakes(title: str, nets: list[Network], n_trials: int) -> list[str]:
    """How often each mistake is found."""
    body = []
    for fault in NAMED:
        cells = [count(net, fault, n_trials) for net in nets]
        every = sum(c[0] for c in cells)
        if every:
            found_in = sum(c[2] >= 0.9 * c[0] for c in cells)
            share = [f"{100 * sum(c[i] for c in cells) / every:.1f}" for i in (1, 2, 3)]
            body.append([fault, *share, f"{found_in} of {len(cells)}", str(every)])
    head = ["mistake", "named %", "or its family %", "any warning %", "found in networks", "draws"]
    return [f"### Mistakes on networks {title}", rows(head, body)] if body else []


def report(nets: list[Network], n_trials: int) -> str:
    """All tables as Markdown."""
    skills = {net.name: against_blind(net) for net in nets}
    better = [n for n in nets if (skills[n.name]["blind"].low or 0) > 0]
    others = [n for n in nets if n not in better]
    parts = [
        *clean(nets, skills, n_trials),
        *mistakes("that are better than blind", better, n_trials),
        *mistakes("that are no better than blind", others, n_trials),
    ]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--datasets", type=Path, required=True)
    parser.add_argument("--nets", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=20, help="a network, mistake and size")
    parser.add_argument("--write", type=Path, help="a Markdown file with the two markers")
    args = parser.parse_args()
    text = report(list(networks(args.nets, args.datasets)), args.trials)
    print(text)
    if args.write:
        first, last = (m.replace("tables", "looks") for m in MARKERS)
        before, rest = args.write.read_text().split(first)
        args.write.write_text(f"{before}{first}\n\n{text}\n{last}{rest.split(last)[1]}")


if __name__ == "__main__":
    main()
