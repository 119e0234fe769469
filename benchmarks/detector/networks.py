"""Small real networks for the detector's validation: ACT, Diffusion and SmolVLA of lerobot.

Each is trained from scratch for a few minutes on one thread, on one part ("fold") of a dataset's
episodes, from pictures of 48×48, and keeps its native predictions on the episodes it never saw.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
import fakes
from policyscope.actions.spaces import NativeActions, NormalizedActions, Normalizer
from policyscope.checks.ablation import other_episodes
from policyscope.commands.check import check
from policyscope.config import DatasetConfig, EvalConfig, PolicyConfig
from policyscope.data.frames import FrameBatch
from policyscope.data.pictures import unit_range
from policyscope.data.source import FrameSource
from policyscope.policies.checkpoint import find_step

SIZE = 48
HORIZON = 16
KINDS = ("act", "diffusion", "smolvla")
FOLDS = ("a", "b", "c")


@dataclass(frozen=True)
class Data:
    """A dataset and its splits: thresholds are tuned on other folds than the one reported.

    Attributes:
        folder: under the root of all datasets.
        train: episodes of training, by fold.
        test: episodes that this fold's networks never saw, by fold.
        report: the fold in the tables of docs/detector.md, which says what was tuned on which.
    """

    folder: str
    train: dict[str, range]
    test: dict[str, range]
    report: str


DATA = {
    "pusht": Data(
        "pusht",
        {"a": range(0, 60), "b": range(60, 120)},
        {"a": range(120, 150), "b": range(176, 206)},
        report="b",
    ),
    "g1": Data(
        "g1",
        {"a": range(0, 4), "b": range(4, 8), "c": range(0, 8, 2)},
        {"a": range(4, 8), "b": range(0, 4), "c": range(1, 8, 2)},
        report="c",
    ),
    "aloha": Data(
        "aloha-sim-transfer-cube",
        {"a": range(0, 2), "b": range(3, 5)},
        {"a": range(2, 5), "b": range(0, 3)},
        report="b",
    ),
}

SETTINGS: dict[str, dict[str, Any]] = {
    "act": {
        "chunk_size": HORIZON,
        "n_action_steps": 8,
        "dim_model": 64,
        "n_heads": 4,
        "dim_feedforward": 128,
        "n_encoder_layers": 2,
        "n_vae_encoder_layers": 1,
        "optimizer_lr": 1e-3,
    },
    "diffusion": {
        "horizon": HORIZON,
        "n_action_steps": 8,
        "down_dims": (64, 128),
        "n_groups": 8,
        "num_inference_steps": 8,
        "prediction_type": "sample",  # usable after fewer steps than noise
        "spatial_softmax_num_keypoints": 16,
        "diffusion_step_embed_dim": 32,
        "use_group_norm": True,
        "normalization_mapping": None,  # lerobot's own: MIN_MAX
    },
    "smolvla": {
        "chunk_size": HORIZON,
        "n_action_steps": 8,
        "resize_imgs_with_padding": (SIZE, SIZE),
        "num_steps": 4,
        "vlm_width": 96,
        "vlm_image": SIZE,
        "expert_width_multiplier": 0.75,
    },
}
RATE = {"act": 5e-4, "diffusion": 5e-4, "smolvla": 8e-4}
BATCH = {"act": 16, "diffusion": 16, "smolvla": 32}
STEPS = {"act": 700, "diffusion": 550, "smolvla": 1400}


@dataclass(frozen=True)
class Frames:
    """All frames of some episodes in memory.

    Attributes:
        images: [N, 3, SIZE, SIZE] uint8; or [N, K] keypoints.
        state: [N, S].
        action: [N, A].
        episode: [N].
        frame: [N] index within the episode.
        task: N texts.
    """

    images: np.ndarray
    state: np.ndarray
    action: np.ndarray
    episode: np.ndarray
    frame: np.ndarray
    task: list[str]

    def within(self, at: np.ndarray, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[B, K] rows of the given steps around rows `at`, and whether they left the episode."""
        first = np.flatnonzero(self.frame == 0)
        start = first[np.searchsorted(first, at, side="right") - 1]
        end = np.append(first[1:], len(self.frame))[np.searchsorted(first, at, side="right") - 1]
        rows = at[:, None] + steps[None, :]
        inside = np.clip(rows, start[:, None], end[:, None] - 1)
        return inside, inside != rows


def load_frames(name: str, root: Path, cache: Path) -> Frames:
    """Every episode that a fold uses, pictures shrunk; decoded once, then read from `cache`."""
    data = DATA[name]
    episodes = sorted({e for part in (data.train, data.test) for r in part.values() for e in r})
    return _load(cache / f"{name}.npz", name, root / data.folder, episodes, SIZE)


def seen_key(source: FrameSource) -> str:
    """What networks look at: the one camera, or the keypoints that stand in for it."""
    return next(iter(source.facts.robot.cameras), "observation.environment_state")


def _load(file: Path, name: str, root: Path, episodes: Sequence[int], size: int | None) -> Frames:
    if not file.is_file():
        source = FrameSource(DatasetConfig(root=str(root)), repo_id=name)
        source.load(episodes)
        key = seen_key(source)
        rows = [(e, f, 0) for e in episodes for f in range(source.episode(e).length)]
        images = [
            _shrink(batch.observations[0][key].copy(), size)
            for batch in source.batches(rows, batch_size=64, keys=frozenset({key}))
        ]
        loaded = [source.episode(e) for e in episodes]
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez(
            file,
            images=np.concatenate(images),
            state=np.concatenate([e.state for e in loaded if e.state is not None]).astype(
                np.float32
            ),
            action=np.concatenate([e.actions.values for e in loaded]).astype(np.float32),
            episode=np.array([r[0] for r in rows]),
            frame=np.array([r[1] for r in rows]),
            task=np.array([t for e in loaded for t in e.tasks]),
        )
    stored = np.load(file)
    return Frames(
        *(stored[k] for k in ("images", "state", "action", "episode", "frame")),
        [str(t) for t in stored["task"]],
    )


def _shrink(images: np.ndarray, size: int | None) -> np.ndarray:
    if size is None:
        return images
    floats = torch.from_numpy(unit_range(images))
    small = torch.nn.functional.interpolate(floats, (size, size), mode="area").numpy()
    return (small * 255).round().astype(np.uint8)


def train(name: str, kind: str, fold: str, frames: Frames, root: Path, out: Path) -> None:
    """Train one network and save it as lerobot does."""
    from lerobot.configs import PreTrainedConfig
    from lerobot.policies.factory import get_policy_class, make_pre_post_processors

    data = DATA[name]
    source = FrameSource(DatasetConfig(root=str(root / data.folder)), repo_id=name)
    (camera,) = source.facts.robot.cameras
    settings = {k: v for k, v in SETTINGS[kind].items() if v is not None}
    if kind == "diffusion":
        from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig

        settings["normalization_mapping"] = DiffusionConfig().normalization_mapping
    fakes.write_policy(
        out,
        root / data.folder,
        kind,
        cameras={camera: SIZE},
        action_dim=frames.action.shape[1],
        state_dim=frames.state.shape[1],
        seed=FOLDS.index(fold),
        **settings,
    )
    config = PreTrainedConfig.from_pretrained(out)
    policy = get_policy_class(kind).from_pretrained(out, config=config)
    pre, _ = make_pre_post_processors(config, pretrained_path=str(out))
    policy.train()
    steps, batch = STEPS[kind], BATCH[kind]
    optimizer = torch.optim.AdamW(policy.parameters(), lr=RATE[kind], weight_decay=1e-4, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, RATE[kind], total_steps=steps, pct_start=0.05
    )
    began, losses = time.perf_counter(), []
    for step, rows in enumerate(_batches(frames, data.train[fold], batch, steps)):
        with torch.autocast("cpu", torch.bfloat16):
            loss, _ = policy.forward(pre(_training_batch(frames, rows, config, camera)))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 10.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % 200 == 0 or step == steps - 1:
            mean, seconds = np.mean(losses[-100:]), time.perf_counter() - began
            print(f"{out.name} step {step} loss {mean:.4f} {seconds:.0f} s", flush=True)
    policy.save_pretrained(out)
    recorded = {"dataset": {"repo_id": name, "episodes": list(data.train[fold])}}
    (out / "train_config.json").write_text(json.dumps(recorded))


def _batches(frames: Frames, episodes: range, size: int, steps: int) -> Iterator[np.ndarray]:
    rows, draw = np.flatnonzero(np.isin(frames.episode, list(episodes))), np.random.default_rng(0)
    for _ in range(steps):
        yield draw.choice(rows, size)


def _training_batch(frames: Frames, rows: np.ndarray, config: Any, camera: str) -> dict[str, Any]:
    ahead, is_pad = frames.within(rows, np.asarray(config.action_delta_indices))
    seen, _ = frames.within(rows, np.asarray(config.observation_delta_indices or [0]))
    state = torch.from_numpy(frames.state[seen])
    images = torch.from_numpy(frames.images[seen]).float() / 255
    if config.observation_delta_indices is None or len(config.observation_delta_indices) == 1:
        state, images = state[:, 0], images[:, 0]
    return {
        fakes.STATE: state,
        camera: images,
        "action": torch.from_numpy(frames.action[ahead]),
        "action_is_pad": torch.from_numpy(is_pad),
        "task": [frames.task[r] for r in rows],
    }


def predict(
    name: str, checkpoint: Path, test: np.ndarray, frames: Frames, root: Path, out: Path
) -> None:
    """Native chunks of every unseen frame: ``predictions.npz``; and of some with mistakes in their
    inputs: ``inputs.npz``."""
    config = EvalConfig(
        policy=PolicyConfig(path=str(checkpoint)),
        dataset=DatasetConfig(repo_id=name, root=str(root), episodes="0"),
        device="cpu",
    )
    inputs = check(config)
    assert inputs.checkpoint is not None
    ask = Asker(inputs.open_policy(config), frames, seen_key(inputs.source))
    predicted = ask(test, *ask.seen(test))
    np.savez(
        out / "predictions.npz",
        predicted=predicted,
        **_beside(frames, test, predicted.shape[1]),
    )
    std = np.asarray(inputs.source.facts.robot.stats["action"]["std"])
    error = np.abs(predicted[:, 0] - frames.action[test]) / std
    print(f"{out.name}: {len(test)} unseen frames, step-1 error {error.mean():.3f} std")
    pool = _spread(frames, test)
    answers = {
        f"{fault}/{swapped}": values
        for fault, seen in input_faults(ask, inputs.checkpoint, pool).items()
        for swapped, values in _ablated(ask, pool, *seen).items()
    }
    np.savez(out / "inputs.npz", **answers, **_beside(frames, pool, predicted.shape[1]))


def _beside(frames: Frames, rows: np.ndarray, horizon: int) -> dict[str, np.ndarray]:
    """What the frames themselves say."""
    ahead, is_pad = frames.within(rows, np.arange(horizon))
    return {
        "target": frames.action[ahead].astype(np.float64),
        "is_pad": is_pad,
        "state": frames.state[rows].astype(np.float64),
        "episode": frames.episode[rows],
        "frame": frames.frame[rows],
    }


def _spread(frames: Frames, rows: np.ndarray) -> np.ndarray:
    """At most 16 episodes, as many frames of each as make 256, four at least."""
    known = np.unique(frames.episode[rows])
    chosen = known[np.linspace(0, len(known) - 1, min(len(known), 16)).astype(int)]
    each = 256 // len(chosen)
    parts = [rows[frames.episode[rows] == e] for e in chosen]
    return np.concatenate([p[np.linspace(0, len(p) - 1, each).astype(int)] for p in parts])


class Asker:
    """Asks a network about frames in memory, as they are or with other inputs."""

    def __init__(self, policy: Any, frames: Frames, camera: str) -> None:
        self._policy, self._frames, self._camera = policy, frames, camera

    def seen(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """[N, steps, 3, SIZE, SIZE] uint8 pictures and [N, steps, S] states."""
        at, _ = self._frames.within(rows, np.asarray(self._policy.spec.steps))
        return self._frames.images[at], self._frames.state[at]

    def __call__(self, rows: np.ndarray, images: np.ndarray, state: np.ndarray) -> np.ndarray:
        """[N, H, A] native chunks; the noise is that of the rows."""
        chunks = []
        for start in range(0, len(rows), 64):
            some = slice(start, start + 64)
            observations = tuple(
                {
                    fakes.STATE: state[some, step].astype(np.float32),
                    self._camera: unit_range(images[some, step]).astype(np.float32),
                }
                for step in range(images.shape[1])
            )
            at = rows[some]
            batch = FrameBatch(
                self._frames.episode[at],
                self._frames.frame[at],
                np.zeros(len(at), dtype=np.int64),
                tuple(self._frames.task[r] for r in at),
                observations,
            )
            chunks.append(self._policy.predict(batch).actions.values)
        return np.concatenate(chunks)

    def others(self, rows: np.ndarray, seed: int) -> np.ndarray:
        """For each row the place of one of another episode."""
        donors = other_episodes(self._frames.episode[rows], seed)
        assert donors is not None
        return donors


def input_faults(
    ask: Asker, checkpoint: Any, rows: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Mistake → the pictures and states that the network would be given."""
    images, state = ask.seen(rows)
    step = find_step(checkpoint.preprocessor, "normalizer_processor")
    assert step is not None
    mode = step.mode("STATE")
    units = ("",) * state.shape[-1]
    door = Normalizer.from_stats({"action": step.stats[fakes.STATE]}, mode=mode, units=units)

    def given(normalized: np.ndarray) -> np.ndarray:
        """What a right normalizer turns into these."""
        return door.unnormalize(NormalizedActions(normalized, door.stats_id)).values

    right = door.normalize(NativeActions(state, units)).values
    draw = np.random.default_rng(0)
    sign = draw.choice([-1.0, 1.0], (2, state.shape[-1]))
    donors = ask.others(rows, 1)
    return {
        "clean": (images, state),
        "black_pictures": (np.zeros_like(images), state),
        **({"upside_down": (images[..., ::-1, :], state)} if images.ndim > 3 else {}),
        "other_frame": (images[donors], state[donors]),
        "raw_state": (images, given(state)),
        "other_state_stats": (images, given(right * 2.0 ** sign[0] + 1.5 * sign[1])),
    }


def _ablated(
    ask: Asker, rows: np.ndarray, images: np.ndarray, state: np.ndarray
) -> dict[str, np.ndarray]:
    donors = ask.others(rows, 0)
    return {
        "own": ask(rows, images, state),
        "camera": ask(rows, images[donors], state),
        "state": ask(rows, images, state[donors]),
    }


def ready(checkpoint: str, dataset: str, first: str, end: str, output_dir: Path) -> None:
    """Predictions of a network that is trained already."""
    root, episodes = Path(dataset), range(int(first), int(end))
    out = output_dir / f"{root.name}-{Path(checkpoint).name}-ready"
    out.mkdir(parents=True, exist_ok=True)
    about = {"checkpoint": checkpoint, "dataset": dataset, "first": int(first)}
    (out / "ready.json").write_text(json.dumps(about))
    frames = _load(output_dir / f"{root.name}-{first}-{end}.npz", root.name, root, episodes, None)
    if not (out / "inputs.npz").is_file():
        every = np.arange(len(frames.frame))
        predict(root.name, Path(checkpoint), every, frames, root, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--datasets", type=Path, help="folder of all datasets, to train on them")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--data", nargs="+", default=list(DATA))
    parser.add_argument("--kinds", nargs="+", default=list(KINDS))
    parser.add_argument("--folds", nargs="+", default=list(FOLDS))
    parser.add_argument(
        "--ready",
        nargs=4,
        metavar=("CHECKPOINT", "DATASET", "FIRST", "END"),
        help="a network that is trained already, and episodes that it never saw; baselines learn "
        "on those before them",
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.ready is not None:
        ready(*args.ready, args.output_dir)
        return
    for name in args.data:
        frames = load_frames(name, args.datasets, args.output_dir)
        for kind in args.kinds:
            for fold in args.folds:
                if fold not in DATA[name].train:
                    continue
                out = args.output_dir / f"{name}-{kind}-{fold}"
                if not (out / "train_config.json").is_file():
                    train(name, kind, fold, frames, args.datasets, out)
                if not (out / "inputs.npz").is_file():
                    test = np.isin(frames.episode, list(DATA[name].test[fold]))
                    root = args.datasets / DATA[name].folder
                    predict(name, out, np.flatnonzero(test), frames, root, out)


if __name__ == "__main__":
    main()
