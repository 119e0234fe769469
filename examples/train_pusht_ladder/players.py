"""Processes that play PushT, paint it and ask the expert, while the policy trains elsewhere."""

from __future__ import annotations

import multiprocessing as mp
import os
import time
from typing import Any

import cv2
import numpy as np
from board import Board
from expert import chunk, push_table
from numpy.typing import NDArray


class Players:
    """Games in other processes, each of them waiting for answers or answered.

    Attributes:
        pictures: (W, G, 96, 96, 3) bytes of W workers with G games each.
        rows: (W, G, 5 + 2 * horizon) agent, block's pose and the expert's chunk.
        moves: (W, G, horizon, 2) the policy's chunks.
        told: [share of new games that the expert plays, games of the policy ended, won].
    """

    def __init__(self, workers: int, games: int, horizon: int, seed: int, args: Any) -> None:
        shapes = {
            "pictures": (np.uint8, (workers, games, 96, 96, 3)),
            "rows": (np.float32, (workers, games, 5 + 2 * horizon)),
            "moves": (np.float32, (workers, games, horizon, 2)),
            "waits": (np.int32, (workers,)),
            "told": (np.float64, (workers, 3)),
        }
        context = mp.get_context("fork")
        self.shared = {}
        for name, (dtype, shape) in shapes.items():
            memory = context.RawArray("b", int(np.prod(shape)) * np.dtype(dtype).itemsize)
            self.shared[name] = np.frombuffer(memory, dtype).reshape(shape)
        self.pictures, self.rows = self.shared["pictures"], self.shared["rows"]
        self.moves, self.waits = self.shared["moves"], self.shared["waits"]
        self.told = self.shared["told"]
        self.told[:, 0] = 1.0
        table = push_table().arrays()
        board = Board()
        board.reset(0)
        chunk(board.agent, board.velocity, board.pose, table, horizon)  # compile once, for all
        for worker in range(workers):
            context.Process(
                target=_work, args=(worker, self.shared, table, seed, args), daemon=True
            ).start()

    def waiting(self) -> list[int]:
        """Workers that want answers."""
        return [w for w in range(len(self.waits)) if self.waits[w]]

    def answer(self, workers: list[int], moves: NDArray[np.float32] | None) -> None:
        """Let them go on: chunks (len(workers), G, horizon, 2); None where the expert plays."""
        if moves is not None:
            self.moves[workers] = moves
        self.waits[workers] = 0


def _work(worker: int, shared: dict[str, Any], table: Any, seed: int, args: Any) -> None:
    from train import begin

    cv2.setNumThreads(1)
    pictures, rows = shared["pictures"][worker], shared["rows"][worker]
    told, waits, games = shared["told"][worker], shared["waits"], len(pictures)
    horizon = shared["moves"].shape[2]
    parent, rng = os.getppid(), np.random.default_rng([seed, worker, time.time_ns()])
    boards, experts = [Board() for _ in range(games)], np.ones(games, bool)
    for board in boards:
        begin(board, rng, args.near)
    while True:
        for i, board in enumerate(boards):
            labels = chunk(board.agent, board.velocity, board.pose, table, horizon)
            rows[i] = np.concatenate([board.agent, board.pose, labels.ravel()])
            pictures[i] = board.see()
        waits[worker] = 1
        while waits[worker]:
            time.sleep(0.0005)
            if os.getppid() != parent:
                return
        for i, board in enumerate(boards):
            moves = rows[i, 5:].reshape(-1, 2) if experts[i] else shared["moves"][worker, i]
            if rng.random() < args.noise:
                moves = np.repeat(board.agent + rng.normal(0, 40, (1, 2)), len(moves), 0)
            for move in moves[: int(rng.integers(1, 1 + args.most_moves))]:
                board.step(np.clip(move, 0, 512), exact=False)
                if board.success:
                    break
            if board.success or board.steps >= args.game_steps:
                if not experts[i]:
                    told[1:] += 1, board.success
                begin(board, rng, args.near)
                experts[i] = rng.random() < told[0]
