"""Shared fixtures: fakes are written once a session, real data is used where it is there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import fakes

torch.set_num_threads(1)  # tiny networks: threads would only wait for each other
SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    if not (SHARED / "datasets").is_dir():
        pytest.skip("real data (../shared) is not on this machine")
    return SHARED


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six episodes, two dims, one camera of PNG pictures, two tasks."""
    return fakes.write_dataset(
        tmp_path_factory.mktemp("data") / "d", tasks=("push the block", "hold still")
    )


@pytest.fixture(scope="session")
def smolvla(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.write_policy(tmp_path_factory.mktemp("policy") / "smolvla", data, "smolvla")


@pytest.fixture(scope="session")
def act(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.write_policy(tmp_path_factory.mktemp("policy") / "act", data, "act")


@pytest.fixture(scope="session")
def diffusion(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.write_policy(tmp_path_factory.mktemp("policy") / "diffusion", data, "diffusion")
