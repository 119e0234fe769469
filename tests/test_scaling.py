"""The simulation of docs/scaling.md, against hand-computed runs."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest
from scaling import Load, Rates, simulate

FREE = Rates(
    picture_bytes=0,
    storage=inf,
    fetch=inf,
    decode=inf,
    cores=1,
    samples=inf,
    row_bytes=0,
    network=inf,
    store=inf,
    score=inf,
    start=0,
)
LOAD = Load(rows=80, pictures=2, batch=10, span=4)  # eight batches in two spans


@pytest.mark.parametrize(
    ("rates", "workers", "seconds", "bound"),
    [
        # a batch takes 1 s of model: 8 on one worker, 4 on two
        (replace(FREE, samples=10), 1, 8, "model"),
        (replace(FREE, samples=10), 2, 4, "model"),
        # a batch has 20 pictures of 0.1 s; two cores halve it
        (replace(FREE, decode=10), 1, 16, "decoding"),
        (replace(FREE, decode=10, cores=2), 2, 4, "decoding"),
        # the first batch of a span is read before the model has anything to do: 2 + 4 + 2 + 4
        (replace(FREE, decode=10, samples=10), 1, 2 * (4 * 2 + 1), "decoding"),
        # 100 bytes a picture: 2000 a batch; a worker's 1000 B/s, or 1000 B/s for both
        (replace(FREE, picture_bytes=100, fetch=1000), 2, 8, "storage"),
        (replace(FREE, picture_bytes=100, storage=1000), 2, 16, "storage"),
        # the driver stores 10 rows a second, whoever predicts
        (replace(FREE, samples=1000, store=10), 4, 0.04 + 8, "driver"),
        (replace(FREE, row_bytes=5, network=10), 4, 40, "network"),
    ],
)
def test_hand_computed(rates: Rates, workers: int, seconds: float, bound: str) -> None:
    found = simulate(LOAD, rates, workers)
    assert found.predicted_s == pytest.approx(seconds)
    assert found.bound == bound
    assert found.busy[bound] <= 1 + 1e-9


def test_scoring_follows_and_workers_start() -> None:
    found = simulate(LOAD, replace(FREE, samples=10, score=40, start=3), 1)
    assert (found.predicted_s, found.scored_s) == (11, 2)
    assert found.total_s == 13


def test_no_span_begins_far_ahead_of_what_is_stored() -> None:
    """Three spans of one worker: the third waits until the first is stored."""
    slow = replace(FREE, samples=40, store=10)  # a span: 1 s to predict, 4 s to store
    found = simulate(replace(LOAD, rows=120), slow, 1)
    # predicted 1, 2, 6 (from 5 on), stored 5, 9, 13
    assert found.predicted_s == pytest.approx(13)
