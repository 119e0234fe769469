"""--engine ray on a cluster of several nodes, one of which leaves in the middle."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from policyscope.commands.evaluate import evaluate
from policyscope.config import RayConfig
from policyscope.engine import ray as on_ray
from policyscope.engine.progress import Watch
from policyscope.sim import cluster
from test_ray import _config, _same

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not cluster.has_ray(), reason="policyscope[ray] is not installed"),
]


@pytest.fixture
def machines() -> Iterator[Any]:
    """A head that computes nothing, and two nodes."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        made.nodes = [made.add_node(num_cpus=1) for _ in range(2)]
        yield made
    finally:
        made.shutdown()


class Leaves(Watch):
    """Takes a node away after some frames."""

    def __init__(self, machines: Any, frames: int) -> None:
        self._machines, self._left = machines, frames
        self.gone = False

    def advance(self, n_frames: int) -> None:
        self._left -= n_frames
        if self._left <= 0 and not self.gone:
            self._machines.remove_node(self._machines.nodes[0], allow_graceful=False)
            self.gone = True


def test_a_node_that_leaves(
    machines: Any, data: Path, smolvla: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_ray, "_SPAN", 2)
    here = _config(data, smolvla, tmp_path / "l")
    local = evaluate(here).directory
    where = RayConfig(address=machines.address, cpus=1)
    leaves = Leaves(machines, 12)
    there = replace(here, output_dir=str(tmp_path / "r"), engine="ray", ray=where)
    _same(evaluate(there, leaves).directory, local)
    assert leaves.gone
