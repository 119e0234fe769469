#!/usr/bin/env python
"""Train a SmolVLA that looks on an expert's answers, corrections included (DAgger).

Other processes play and paint; the policy trains meanwhile on what they have met so far. It
begins with the weights of another small SmolVLA. See README.md next to this file.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import math
import os
import shutil
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F  # noqa: N812
from board import Board
from players import Players
from policies import ACTION, IMAGE, STATE
from torch import Tensor, nn
from train import evaluate

TASK = "Push the T-shaped block onto the T-shaped target."
BOARD = 512.0
STATS = {"mean": 256.0, "std": 110.0, "min": 0.0, "max": 512.0}  # of the board, for all


class Recorded:
    """Frames of LeRobot datasets: pictures (N, 96, 96, 3), states (N, 2), chunks (N, T, 2)."""

    def __init__(self, told: list[str], chunk: int, device: str) -> None:
        parts = [self._read(Path(root), episodes) for root, episodes in map(_split, told)]
        pictures, states, actions, last = (np.concatenate(p) for p in zip(*parts, strict=True))
        sizes = [len(part[3]) for part in parts]
        last += np.repeat(np.cumsum([0, *sizes[:-1]]), sizes)
        ahead = np.arange(len(last))[:, None] + np.arange(chunk)
        self.pictures = torch.from_numpy(pictures).to(device)
        self.states = torch.from_numpy(states).to(device)
        self.chunks = torch.from_numpy(actions[np.minimum(ahead, last[:, None])]).to(device)
        self.valid = torch.from_numpy(ahead <= last[:, None]).to(device)
        # Each dataset is drawn as often as the others.
        self.weights = torch.from_numpy(np.repeat(1 / np.array(sizes), sizes)).to(device)

    @staticmethod
    def _read(root: Path, episodes: range) -> tuple[np.ndarray, ...]:
        def table(folder: str) -> pd.DataFrame:
            return pd.concat(
                [pd.read_parquet(p) for p in sorted((root / folder).rglob("*.parquet"))]
            )

        meta, data = table("meta/episodes").set_index("episode_index"), table("data")
        fps = json.loads((root / "meta/info.json").read_text())["fps"]
        pictures, states, actions, last, opened = [], [], [], [], None
        for episode in episodes:
            row = meta.loc[episode]
            place = [int(row[f"videos/{IMAGE}/{k}"]) for k in ("chunk_index", "file_index")]
            file = root / "videos" / IMAGE / f"chunk-{place[0]:03d}" / f"file-{place[1]:03d}.mp4"
            if file != opened:
                opened, at, video = file, 0, av.open(str(file)).decode(video=0)
            first = round(row[f"videos/{IMAGE}/from_timestamp"] * fps)
            end = first + int(row["length"])
            for at, frame in zip(range(at, end), video, strict=False):  # noqa: B020
                if at >= first:
                    pictures.append(frame.to_ndarray(format="rgb24"))
            at = end
            rows = data[data["episode_index"] == episode].sort_values("frame_index")
            states.append(np.stack(rows[STATE]))
            actions.append(np.stack(rows[ACTION]))
            last.append(np.full(len(rows), len(pictures) - 1))
        join = np.concatenate
        return np.stack(pictures), join(states), join(actions), join(last)

    def batch(self, size: int) -> tuple[Tensor, ...]:
        """Drawn frames, half of them mirrored at the goal's axis: the task stays the same."""
        index = torch.multinomial(self.weights, size, replacement=True)
        picture, state, chunk = (x[index] for x in (self.pictures, self.states, self.chunks))
        mirror = torch.rand(size, device=index.device) < 0.5
        turned = picture.transpose(1, 2).flip(1, 2)
        picture = torch.where(mirror[:, None, None, None], turned, picture)
        state = torch.where(mirror[:, None], BOARD - state.flip(-1), state)
        chunk = torch.where(mirror[:, None, None], BOARD - chunk.flip(-1), chunk)
        return picture, state, chunk, self.valid[index]


def _split(told: str) -> tuple[str, range]:
    root, _, episodes = told.rpartition("=")
    first, _, end = episodes.partition(":")
    return root, range(int(first), int(end))


class Memory:
    """A ring of the newest pictures and rows of the players, on the policy's device."""

    def __init__(self, size: int, width: int, device: str) -> None:
        self.pictures = torch.zeros((size, 96, 96, 3), dtype=torch.uint8, device=device)
        self.rows = torch.zeros((size, width), device=device)
        self.seen = 0

    def __len__(self) -> int:
        return min(self.seen, len(self.rows))

    def add(self, pictures: Tensor, rows: Tensor) -> None:
        """(N, 96, 96, 3) and (N, width)"""
        place = (self.seen + torch.arange(len(rows), device=rows.device)) % len(self.rows)
        self.pictures[place], self.rows[place] = pictures, rows
        self.seen += len(rows)

    def batch(self, size: int) -> tuple[Tensor, Tensor]:
        """Drawn pictures and rows."""
        index = torch.randint(len(self), (size,), device=self.rows.device)
        return self.pictures[index], self.rows[index]


class Trainer:
    """Policy, moving average, optimizer and players."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.output, self.device = args, args.output_dir, args.device
        self.output.mkdir(parents=True, exist_ok=True)
        self.players = Players(args.workers, args.games, args.chunk_size, args.seed, args)
        torch.manual_seed(args.seed)
        torch.backends.cuda.matmul.allow_tf32 = True
        self.policy = self._begin().to(self.device).train()
        self.average = copy.deepcopy(self.policy).eval().requires_grad_(False)
        model = self.policy.model.vlm_with_expert
        width = model.config.text_config.hidden_size
        self.head = nn.Sequential(
            nn.Flatten(), nn.LayerNorm(36 * width), nn.Linear(36 * width, 4)
        ).to(self.device)  # reads the block's pose from the picture's tokens; thrown away
        self.tokens: list[Tensor] = []
        model.vlm.model.connector.register_forward_hook(
            lambda _module, _inputs, output: self.tokens.append(output)
        )
        self.parameters = [
            p for p in [*self.policy.parameters(), *self.head.parameters()] if p.requires_grad
        ]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=args.lr, betas=(0.9, 0.95), weight_decay=0.01, fused=True
        )
        self.step, self.elapsed = 0, 0.0
        self.memory = Memory(args.samples, 5 + 2 * args.chunk_size, self.device)
        self.recorded = (
            Recorded(args.recorded, args.chunk_size, self.device) if args.recorded else None
        )
        if (self.output / "last.pt").exists():
            self._load()

    def _begin(self) -> Any:
        from lerobot.configs.policies import PreTrainedConfig
        from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy
        from tokenizers import Tokenizer

        args, before = self.args, Path.cwd()
        os.chdir(args.start)  # it names its folder `vlm` relatively
        try:
            config = PreTrainedConfig.from_pretrained(".")
            config.chunk_size, config.n_action_steps = args.chunk_size, args.n_action_steps
            config.device = "cpu"
            policy = SmolVLAPolicy.from_pretrained(".", config=config)
            words = Tokenizer.from_file("vlm/tokenizer.json").encode(TASK + "\n").ids
        finally:
            os.chdir(before)
        self.words = torch.tensor([words], device=self.device)
        return policy.float()

    def _language(self, size: int) -> tuple[Tensor, Tensor]:
        words = self.words.expand(size, -1)
        return words, torch.ones_like(words, dtype=torch.bool)

    def _autocast(self) -> Any:
        if not self.args.bf16:
            return contextlib.nullcontext()
        return torch.autocast(self.device, torch.bfloat16)

    @torch.no_grad()
    def serve(self) -> None:
        """Keep what waiting players have met, and answer them."""
        waiting = self.players.waiting()
        if not waiting:
            return
        expert = self._progress() < self.args.expert_first
        pictures = torch.from_numpy(self.players.pictures[waiting]).to(self.device).flatten(0, 1)
        rows = torch.from_numpy(self.players.rows[waiting]).to(self.device).flatten(0, 1)
        self.memory.add(pictures, rows)
        moves = None
        if not expert:
            self.players.told[:, 0] = self.args.expert_share
            moves = self.predict(pictures, rows[:, :2])
            moves = moves.reshape(len(waiting), -1, *moves.shape[1:])
        self.players.answer(waiting, moves)

    @torch.no_grad()
    def predict(self, pictures: Tensor, agents: Tensor) -> np.ndarray:
        """Native chunks (N, T, 2) of the averaged policy for (N, 96, 96, 3) and (N, 2)."""
        batch = {IMAGE: to_image(pictures), STATE: normalize(agents)}
        with self._autocast():
            images, masks = self.average.prepare_images(batch)
            chunks = self.average.model.sample_actions(
                images, masks, *self._language(len(agents)), batch[STATE]
            )
        return (chunks.float() * STATS["std"] + STATS["mean"]).cpu().numpy()

    def act(self, boards: list[Board]) -> np.ndarray:
        """Native chunks for games."""
        pictures = torch.from_numpy(np.stack([b.see() for b in boards]))
        agents = torch.tensor(np.stack([b.agent for b in boards]), dtype=torch.float32)
        return self.predict(pictures.to(self.device), agents.to(self.device))

    def _progress(self) -> float:
        return min(1.0, self.elapsed / (60 * self.args.minutes))

    def _rate(self) -> float:
        cool = max(0.0, (self._progress() - 0.3) / 0.7)
        return float(
            self.args.lr
            * min(1, (self.step + 1) / 300)
            * (0.01 + 0.99 * math.cos(cool * math.pi / 2) ** 2)
        )

    def train_step(self) -> tuple[Tensor, Tensor]:
        """One step of the optimizer; the policy's loss and the pose's error in board units."""
        args, device = self.args, self.device
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate()
        count = round(args.batch_size * args.recorded_share) if self.recorded else 0
        picture, rows = self.memory.batch(args.batch_size - count)
        state, chunk = rows[:, :2], rows[:, 5:].view(len(rows), -1, 2)
        valid = torch.ones(len(rows), args.chunk_size, dtype=torch.bool, device=device)
        if self.recorded is not None and count:
            others = self.recorded.batch(count)
            picture, state, chunk, valid = (
                torch.cat(pair) for pair in zip((picture, state, chunk, valid), others, strict=True)
            )
        image = to_image(picture)
        self.tokens.clear()
        with self._autocast():
            batch = {IMAGE: image, STATE: normalize(state)}
            images, masks = self.policy.prepare_images(batch)
            losses = self.policy.model.forward(
                images, masks, *self._language(len(image)), batch[STATE], normalize(chunk)
            )
        # What is executed before the next look counts twice.
        early = torch.arange(args.chunk_size, device=device) < args.chunk_size // 2
        weights = valid * (0.5 + 0.5 * early)
        loss = (losses.float().mean(-1) * weights).sum() / weights.sum()
        found = self.head(self.tokens[-1].float())[: len(rows)]
        pose = rows[:, 2:5]
        stem = torch.stack([-pose[:, 2].sin(), pose[:, 2].cos()], 1)
        points = torch.cat([pose[:, :2], pose[:, :2] + 60 * stem], 1) / (BOARD / 2) - 1
        auxiliary = F.smooth_l1_loss(found, points, beta=0.02)
        (loss + args.pose_weight * auxiliary).backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        decay = min(args.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.average.parameters()),
                [p.detach() for p in self.policy.parameters()],
                1 - decay,
            )
        error = (found.detach() - points).abs().mean() * (BOARD / 2)
        return loss.detach(), error

    def _load(self) -> None:
        saved = torch.load(self.output / "last.pt", weights_only=True, map_location=self.device)
        for name in ("policy", "average", "head", "optimizer"):
            getattr(self, name).load_state_dict(saved[name])
        self.step, self.elapsed = saved["step"], saved["elapsed"]

    def save(self) -> None:
        """What a resumed training needs; players begin anew."""
        names = ("policy", "average", "head", "optimizer")
        state: dict[str, Any] = {name: getattr(self, name).state_dict() for name in names}
        torch.save(state | {"step": self.step, "elapsed": self.elapsed}, self.output / "last.tmp")
        (self.output / "last.tmp").replace(self.output / "last.pt")

    def export(self) -> None:
        """A LeRobot checkpoint of the averaged weights, in half precision."""
        from lerobot.policies.smolvla.processor_smolvla import make_smolvla_pre_post_processors

        final, partial = self.output / f"{self.step:06d}", self.output / "checkpoint.tmp"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        shutil.copytree(self.args.start / "vlm", partial / "vlm")
        average = copy.deepcopy(self.average).half().cpu()
        average.config.vlm_model_name = "vlm"
        average.save_pretrained(partial)
        config = copy.deepcopy(average.config)
        config.vlm_model_name = str((partial / "vlm").resolve())
        stats = {
            key: {name: torch.full((2,), value) for name, value in STATS.items()}
            for key in (STATE, ACTION)
        }
        for processor in make_smolvla_pre_post_processors(config, stats):
            processor.save_pretrained(partial)
        for path in partial.glob("*.json"):
            path.write_text(path.read_text().replace(json.dumps(config.vlm_model_name), '"vlm"'))
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)

    def run(self) -> None:
        """Train for the requested time."""
        args, losses = self.args, []
        while len(self.memory) < args.first_samples:
            self.serve()
            time.sleep(0.001)
        clock = saved = time.perf_counter()
        began, steps, exports = clock, self.step, sorted(args.export_at)
        exports = [share for share in exports if share > self._progress()]
        while self._progress() < 1:
            self.serve()
            losses.append(torch.stack(self.train_step()))
            now = time.perf_counter()
            self.elapsed, clock = self.elapsed + now - clock, now
            if exports and self._progress() >= exports[0]:
                exports.pop(0)
                self.export()
                print(f"step {self.step} checkpoint, {self.elapsed:.0f} s", flush=True)
            if self.step % args.log_every == 0:
                loss, error = torch.stack(losses).mean(0).tolist()
                ended, won = self.players.told[:, 1:].sum(0)
                print(
                    f"{self.elapsed:.0f} s step {self.step} loss {loss:.4f} pose {error:.2f} lr "
                    f"{self._rate():.1e} seen {self.memory.seen} games {ended:.0f} won {won:.0f} "
                    f"{(time.perf_counter() - began) / (self.step - steps):.4f} s/step",
                    flush=True,
                )
                self.players.told[:, 1:] = 0
                losses, began, steps = [], time.perf_counter(), self.step
            if now - saved > 60 * args.save_minutes:
                self.save()
                saved = now
        self.save()
        self.export()
        print(f"step {self.step} checkpoint, {self.elapsed:.0f} s, the last", flush=True)
        seeds = range(1000, 1000 + args.evaluate_seeds)
        for count in (4, 2, 8) if args.evaluate_seeds else ():
            torch.manual_seed(args.seed)
            success, reward, _ = evaluate(self.act, seeds, count).mean(0)
            print(f"n_action_steps {count}: success {success:.3f} reward {reward:.3f}", flush=True)


def to_image(pictures: Tensor) -> Tensor:
    """(N, H, W, 3) bytes to (N, 3, H, W) from 0 to 1."""
    return pictures.permute(0, 3, 1, 2).float() / 255


def normalize(value: Tensor) -> Tensor:
    """Board units to normalized ones, as lerobot's processors do it."""
    return (value - STATS["mean"]) / (STATS["std"] + 1e-8)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--start", type=Path, required=True, help="a small SmolVLA's checkpoint")
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--minutes", type=float, default=600, help="to train, resumed runs summed")
    parser.add_argument("--workers", type=int, default=1, help="processes that play")
    parser.add_argument("--games", type=int, default=48, help="of each worker at once")
    parser.add_argument("--chunk_size", type=int, default=16)
    parser.add_argument("--n_action_steps", type=int, default=4)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=6e-4)
    parser.add_argument("--ema_decay", type=float, default=0.999)
    parser.add_argument("--pose_weight", type=float, default=2.0)
    parser.add_argument("--samples", type=int, default=100_000, help="kept at most, 28 KB each")
    parser.add_argument("--first_samples", type=int, default=5000, help="before the first step")
    parser.add_argument("--expert_first", type=float, default=0.08, help="share of the time")
    parser.add_argument("--expert_share", type=float, default=0.1, help="of the games after that")
    parser.add_argument(
        "--recorded", nargs="*", default=[], metavar="ROOT=FIRST:END", help="LeRobot datasets"
    )
    parser.add_argument("--recorded_share", type=float, default=0.2, help="of each batch")
    parser.add_argument("--game_steps", type=int, default=250)
    parser.add_argument("--near", type=float, default=0.3, help="share of games near the goal")
    parser.add_argument("--noise", type=float, default=0.05, help="chance of a random move")
    parser.add_argument(
        "--most_moves", type=int, default=4, help="of a chunk, before the next look"
    )
    parser.add_argument("--export_at", type=float, nargs="*", default=[], help="shares of the time")
    parser.add_argument("--evaluate_seeds", type=int, default=100, help="at the end")
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--log_every", type=int, default=100)
    parser.add_argument("--save_minutes", type=float, default=3.0)
    return parser.parse_args()


def main() -> None:
    """Train."""
    args = parse_args()
    torch.set_num_threads(args.threads)
    Trainer(args).run()


if __name__ == "__main__":
    main()
