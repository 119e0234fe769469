"""bfloat16 checkpoints on CPUs with and without units for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import fakes
from policyscope.commands.evaluate import evaluate
from policyscope.policies import lerobot
from policyscope.policies.precision import bfloat16_units, widened


def _network(dtype: torch.dtype) -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2)).to(dtype)


def test_bfloat16_weights_are_widened_where_there_are_no_units() -> None:
    network, before = _network(torch.bfloat16), _network(torch.bfloat16)
    assert widened(network, units=lambda: False)
    for wide, narrow in zip(network.parameters(), before.parameters(), strict=True):
        assert wide.dtype == torch.float32
        assert torch.equal(wide.bfloat16(), narrow)


@pytest.mark.parametrize(
    ("dtype", "units"), [(torch.bfloat16, True), (torch.float32, False), (torch.float32, True)]
)
def test_other_networks_stay_as_they_are(dtype: torch.dtype, units: bool) -> None:
    network = _network(dtype)
    assert not widened(network, units=lambda: units)
    assert {p.dtype for p in network.parameters()} == {dtype}


@pytest.mark.parametrize("units", [False, True])
def test_the_record_says_so(
    units: bool, data: Path, act: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = lerobot.load_policy
    monkeypatch.setattr(lerobot, "load_policy", lambda *args: _half(load(*args), not units))
    monkeypatch.setattr(lerobot, "widened", lambda model: widened(model, units=lambda: units))
    record = evaluate(
        fakes.config_for(data, act, tmp_path / "o", episodes="0", execute="none")
    ).record
    said = [f for f in record.findings if f.code == "ran_in_float32"]
    assert len(said) == (not units)
    assert record.environment.dtype == "float32"


def _half(policy: torch.nn.Module, really: bool) -> torch.nn.Module:
    return policy.bfloat16() if really else policy


def test_this_machine_answers() -> None:
    assert bfloat16_units() in (True, False)
    flags = Path("/proc/cpuinfo")
    if flags.exists() and "vendor_id" in flags.read_text():  # x86
        words = flags.read_text().split()
        assert bfloat16_units() == ("avx512_bf16" in words or "amx_bf16" in words)
