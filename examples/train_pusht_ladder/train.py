#!/usr/bin/env python
"""Train a PushT policy on an expert's answers, corrections included (DAgger).

See README.md next to this file.
"""

from __future__ import annotations

import argparse
import copy
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from board import MAX_STEPS, Board, keypoints
from expert import GOAL, chunk, push_table
from policies import (
    ACTION,
    HORIZON,
    IMAGE,
    KEYS,
    STATE,
    answer,
    loss,
    make_config,
    make_policy,
    teach,
)
from torch import Tensor, nn

TRAINING_SEEDS = 1_000_000  # seeds below are for evaluations


class Samples:
    """States and the expert's answers to them; pictures of the states where they are wanted."""

    def __init__(self, pictures: bool) -> None:
        self.rows = np.zeros((0, 5 + 2 * HORIZON), np.float32)
        self.painter = Board() if pictures else None
        self.pictures = np.zeros((0, 96, 96, 3), np.uint8)

    def add(self, rows: np.ndarray, limit: int) -> None:
        """Append; where there are too many, the oldest go."""
        self.rows = np.concatenate([self.rows, rows.astype(np.float32)])[-limit:]
        if self.painter is not None:
            new = [self.painter.picture(row[:2], row[2:5]) for row in rows[-limit:]]
            self.pictures = np.concatenate([self.pictures, np.stack(new)])[-limit:]

    def batch(self, index: np.ndarray) -> dict[str, Tensor]:
        """Observations and chunks in native units."""
        rows = self.rows[index]
        seen = {
            STATE: torch.from_numpy(rows[:, :2]),
            KEYS: torch.from_numpy(keypoints(rows[:, 2:5])),
            ACTION: torch.from_numpy(rows[:, 5:].reshape(-1, HORIZON, 2)),
        }
        if self.painter is not None:
            seen[IMAGE] = to_tensor(self.pictures[index])
        return seen


def to_tensor(pictures: np.ndarray) -> Tensor:
    """(N, H, W, 3) bytes to (N, 3, H, W) from 0 to 1."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255


def observe(boards: list[Board], pictures: bool) -> dict[str, Tensor]:
    """What a policy sees of games."""
    seen = {STATE: torch.tensor(np.stack([b.agent for b in boards]), dtype=torch.float32)}
    if pictures:
        seen[IMAGE] = to_tensor(np.stack([b.see() for b in boards]))
    else:
        seen[KEYS] = torch.from_numpy(keypoints(np.stack([b.pose for b in boards])))
    return seen


def begin(board: Board, rng: np.random.Generator, near: float) -> None:
    """A new game: as gym-pusht begins, or, for a share ``near`` of them, close to the goal."""
    if rng.random() >= near:
        board.reset(TRAINING_SEEDS + int(rng.integers(2**31)))
        return
    pose = GOAL + rng.normal(0, 1, 3) * rng.choice([0.3, 1.0]) * np.array([40, 40, 0.6])
    board.put(rng.uniform(30, 482, 2), pose)


def collect(
    act: Any, games: int, steps: int, rng: np.random.Generator, table: Any, args: argparse.Namespace
) -> np.ndarray:
    """Play some games at once and ask the expert about what is met.

    Args:
        act: games (N) to chunks (N, n, 2); None: the expert itself.
        games: how many.
        steps: how many decisions in each place; a finished game is followed by another one.

    Returns:
        rows of `Samples`.
    """
    boards = [Board() for _ in range(games)]
    for board in boards:
        begin(board, rng, args.near)
    rows = []
    for _ in range(steps):
        labels = np.stack([chunk(b.agent, b.velocity, b.pose, table, HORIZON) for b in boards])
        agents, poses = np.stack([b.agent for b in boards]), np.stack([b.pose for b in boards])
        rows.append(np.concatenate([agents, poses, labels.reshape(games, -1)], 1))
        actions = labels if act is None else act(boards)
        for board, moves in zip(boards, actions, strict=True):
            if rng.random() < args.noise:  # as if somebody pushed the agent
                moves = np.repeat(board.agent + rng.normal(0, 40, (1, 2)), len(moves), 0)
            for move in moves[: int(rng.integers(1, 4))]:
                board.step(np.clip(move, 0, 512), exact=False)
            if board.success or board.steps >= args.game_steps:
                begin(board, rng, args.near)
    return np.concatenate(rows)


def evaluate(act: Any, seeds: range, n_action_steps: int) -> np.ndarray:
    """Play seeds, all games at once.

    Returns:
        (N, 3): success, highest reward and sum of rewards of each game.
    """
    boards = [Board() for _ in seeds]
    for board, seed in zip(boards, seeds, strict=True):
        board.reset(seed)
    told, active = np.zeros((len(boards), 3)), list(range(len(boards)))
    while active:
        still = []
        for i, moves in zip(active, act([boards[i] for i in active]), strict=True):
            for move in moves[:n_action_steps]:
                boards[i].step(np.clip(move, 0, 512))
                reward = boards[i].reward
                told[i] = boards[i].success, max(told[i, 1], reward), told[i, 2] + reward
                if boards[i].success or boards[i].steps >= MAX_STEPS:
                    break
            else:
                still.append(i)
        active = still
    return told


def board_stats(samples: Samples) -> dict[str, dict[str, Tensor]]:
    """Statistics of first samples; minima and maxima are the board's own borders."""
    rows = samples.rows
    told = {STATE: rows[:, :2], KEYS: keypoints(rows[:, 2:5]), ACTION: rows[:, 5:].reshape(-1, 2)}
    stats = {}
    for key, value in told.items():
        flat = torch.from_numpy(value).double()
        stats[key] = {
            "mean": flat.mean(0).float(),
            "std": flat.std(0).float(),
            "min": torch.zeros(flat.shape[-1]),
            "max": torch.full((flat.shape[-1],), 512.0),
        }
    return stats


class Trainer:
    """Policy, moving average, optimizer, samples, and where they are stored."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.output = args, args.output_dir
        self.output.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(args.seed)
        self.table = push_table().arrays()
        self.samples, self.step, self.elapsed = Samples(args.pictures), 0, 0.0
        self.samples.rows = self._first()
        self.config = make_config(args.type, args.normalization, args.width, args.pictures)
        self.policy, self.before, self.after = make_policy(self.config, board_stats(self.samples))
        self.teacher = teach(self.policy, args.teacher) if args.teacher else None
        self.average = copy.deepcopy(self.policy).eval().requires_grad_(False)
        self.weights = [p for p in self.policy.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.weights, lr=args.lr, weight_decay=1e-4)
        if (self.output / "last.pt").exists():
            self._load()
        rows, self.samples.rows = self.samples.rows, self.samples.rows[:0]
        self.samples.add(rows, args.samples)  # and paint them
        count = sum(p.numel() for p in self.policy.parameters())
        print(f"{args.type} {args.normalization}: {count} parameters, step {self.step}", flush=True)

    def _first(self) -> np.ndarray:
        """What the training begins with: the expert's own games, or another training's samples."""
        args, first = self.args, self.output / "first.npy"
        if not first.exists():
            rng = np.random.default_rng(args.seed)
            if args.first:
                rows = np.load(args.first)
                rows = rows[rng.permutation(len(rows))[: args.first_samples]]
            else:
                rows = collect(None, 64, args.first_samples // 64, rng, self.table, args)
            np.save(first, rows.astype(np.float32))
        return np.load(first)

    def act(self, boards: list[Board]) -> np.ndarray:
        """Native chunks of the averaged policy."""
        seen = self.before(observe(boards, self.args.pictures))
        return self.after(answer(self.average, seen)).numpy()

    def _batch(self) -> dict[str, Tensor]:
        rng = np.random.default_rng([self.args.seed, self.step, 1])
        return self.before(
            self.samples.batch(rng.integers(len(self.samples.rows), size=self.args.batch_size))
        )

    def _rate(self) -> float:
        step = self.step + 1
        rate = self.args.lr * min(step / 200, (self.args.decay_after / step) ** 0.5, 1.0)
        return float(rate * min(1.0, 5 * (1 - self._progress()) + 0.01))

    def _progress(self) -> float:
        """Share of the time that is over; 0 where none was set."""
        return self.elapsed / (60 * self.args.minutes) if self.args.minutes else 0.0

    def train_step(self) -> float:
        """One step of the optimizer; its loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate()
        value = loss(self.policy, self._batch(), self.teacher)
        value.backward()
        nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        decay = min(self.args.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.average.parameters()),
                [p.detach() for p in self.policy.parameters()],
                1 - decay,
            )
        return float(value.detach())

    def correct(self) -> None:
        """Let the policy play, and add the expert's answers to what it met."""
        args = self.args
        rng = np.random.default_rng([args.seed, self.step, 2])
        rows = collect(self.act, args.games, args.decisions, rng, self.table, args)
        self.samples.add(rows, args.samples)

    def measure(self) -> str:
        """Success and average max reward of the averaged policy."""
        if self.args.evaluate_seeds == 0:
            return "not measured"
        torch.manual_seed(self.args.seed)
        start = time.perf_counter()
        seeds = range(1000, 1000 + self.args.evaluate_seeds)
        success, reward, _ = evaluate(self.act, seeds, self.config.n_action_steps).mean(0)
        return f"success {success:.3f} reward {reward:.3f} ({time.perf_counter() - start:.0f} s)"

    def _load(self) -> None:
        saved = torch.load(self.output / "last.pt", weights_only=True)
        self.policy.load_state_dict(saved["policy"])
        self.average.load_state_dict(saved["average"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.step, self.elapsed = saved["step"], saved.get("elapsed", 0.0)
        self.samples.rows = np.load(self.output / "samples.npy")

    def save(self) -> None:
        """All that a resumed training needs."""
        state = {
            "policy": self.policy.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "elapsed": self.elapsed,
        }
        with (self.output / "samples.tmp").open("wb") as file:
            np.save(file, self.samples.rows)
        torch.save(state, self.output / "last.tmp")
        (self.output / "samples.tmp").replace(self.output / "samples.npy")
        (self.output / "last.tmp").replace(self.output / "last.pt")

    def export(self) -> None:
        """A LeRobot checkpoint of the averaged policy."""
        final, partial = self.output / f"{self.step:06d}", self.output / "checkpoint.tmp"
        shutil.rmtree(partial, ignore_errors=True)
        for part in (self.average, self.before, self.after):
            part.save_pretrained(partial)
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)

    def run(self) -> None:
        """Train up to the requested number of steps."""
        args, losses, saved = self.args, [], time.perf_counter()
        began = clock = saved
        while self.step < args.steps and self._progress() < 1:
            if self.step % args.correct_every == 0 and self.step > 0:
                self.correct()
            losses.append(self.train_step())
            now = time.perf_counter()
            self.elapsed, clock = self.elapsed + now - clock, now
            over = self.step == args.steps or self._progress() >= 1
            if self.step in args.export_steps or over:
                self.export()
                print(f"step {self.step} checkpoint {self.measure()}", flush=True)
            if self.step % args.log_every == 0:
                speed = (time.perf_counter() - began) / len(losses)
                print(
                    f"{time.strftime('%H:%M:%S')} step {self.step} loss {np.mean(losses):.5f} "
                    f"samples {len(self.samples.rows)} {speed:.3f} s/step",
                    flush=True,
                )
                losses, began = [], time.perf_counter()
            if now - saved > args.save_minutes * 60 or over:
                self.save()
                saved = time.perf_counter()


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--type", choices=("act", "diffusion", "tdmpc"), default="act")
    parser.add_argument("--normalization", choices=("mean_std", "min_max"), default="mean_std")
    parser.add_argument("--pictures", action="store_true", help="instead of keypoints (tdmpc)")
    parser.add_argument("--teacher", type=Path, help="a checkpoint on keypoints, for --pictures")
    parser.add_argument("--first", type=Path, help="samples.npy of another training to begin with")
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--steps", type=int, default=20000)
    parser.add_argument(
        "--minutes", type=float, default=0, help="at most; the rate falls in the last fifth"
    )
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--decay_after", type=int, default=3000, help="then lr / sqrt(step)")
    parser.add_argument("--ema_decay", type=float, default=0.998)
    parser.add_argument("--first_samples", type=int, default=102400, help="to begin with")
    parser.add_argument("--samples", type=int, default=600000, help="kept at most")
    parser.add_argument("--correct_every", type=int, default=250, help="steps; 0: never")
    parser.add_argument("--games", type=int, default=32, help="at once, to collect corrections")
    parser.add_argument("--decisions", type=int, default=120, help="per game and collection")
    parser.add_argument("--game_steps", type=int, default=250)
    parser.add_argument("--near", type=float, default=0.3, help="share of games near the goal")
    parser.add_argument("--noise", type=float, default=0.08, help="chance of a random move")
    parser.add_argument("--export_steps", type=int, nargs="*", default=[])
    parser.add_argument("--evaluate_seeds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--log_every", type=int, default=200)
    parser.add_argument("--save_minutes", type=float, default=3.0)
    return parser.parse_args()


def main() -> None:
    """Train."""
    args = parse_args()
    torch.set_num_threads(args.threads)
    Trainer(args).run()


if __name__ == "__main__":
    main()
