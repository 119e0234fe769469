"""Linear layers through oneDNN: the same answers, where a CPU's widest units would lie idle."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import fakes
from policyscope.commands.check import check
from policyscope.policies import linear
from policyscope.policies.linear import by_onednn, idle_units

pytestmark = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="PyTorch without oneDNN"
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of what goes through oneDNN, however small it is."""
    shapes: list[tuple[int, ...]] = []
    theirs = torch.ops.mkldnn._linear_pointwise

    def counted(x: torch.Tensor, *args: object) -> torch.Tensor:
        shapes.append(tuple(x.shape))
        answer: torch.Tensor = theirs(x, *args)
        return answer

    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", counted)
    monkeypatch.setattr(linear, "_SMALL", 0)
    return shapes


def _network(dtype: torch.dtype = torch.float32) -> torch.nn.Sequential:
    torch.manual_seed(0)
    layers = torch.nn.Linear(5, 7), torch.nn.GELU(), torch.nn.Linear(7, 3, bias=False)
    return torch.nn.Sequential(*layers).to(dtype).eval()


@pytest.mark.parametrize("shape", [(5,), (1, 5), (2, 3, 5), (0, 5)])
def test_the_same_answers(asked: list[tuple[int, ...]], shape: tuple[int, ...]) -> None:
    plain, other = _network(), _network()
    assert by_onednn(other, idle=lambda: True)
    x = torch.randn(shape)
    with torch.inference_mode():
        torch.testing.assert_close(other(x), plain(x), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(copy.deepcopy(other)(x), plain(x), rtol=1e-5, atol=1e-6)
    assert len(asked) == 4


def test_a_copy_has_its_own_weights(asked: list[tuple[int, ...]]) -> None:
    network = _network()
    by_onednn(network, idle=lambda: True)
    twin = copy.deepcopy(network)
    with torch.inference_mode():
        before = network(torch.ones(2, 5))
        twin[0].weight.zero_()
        assert torch.equal(network(torch.ones(2, 5)), before)
        assert not torch.equal(twin(torch.ones(2, 5)), before)
    assert asked


def test_other_precisions_are_pytorchs_matter(asked: list[tuple[int, ...]]) -> None:
    half, plain = _network(torch.bfloat16), _network()
    x = torch.randn(2, 5)
    for network in (half, plain):
        assert by_onednn(network, idle=lambda: True)
    with torch.inference_mode():
        assert half(x.bfloat16()).dtype == torch.bfloat16
        with torch.autocast("cpu", torch.bfloat16):
            assert plain(x).dtype == torch.bfloat16
    assert asked == []


def test_small_products_stay_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    network = _network()
    by_onednn(network, idle=lambda: True)
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", None)
    with torch.inference_mode():
        assert network(torch.ones(2, 5)).shape == (2, 3)


def test_nothing_changes_where_nothing_is_idle() -> None:
    network = _network()
    assert not by_onednn(network, idle=lambda: False)
    assert "forward" not in vars(network[0])


def test_this_machine_answers() -> None:
    flags = Path("/proc/cpuinfo")
    words = flags.read_text().split() if flags.exists() else []
    assert idle_units() == ({"AuthenticAMD", "avx512f", "avx512bw"} <= set(words))


@pytest.mark.parametrize("kind", ["act", "smolvla"])
def test_a_policys_actions_stay_the_same(
    kind: str,
    asked: list[tuple[int, ...]],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("policyscope.policies.lerobot.by_onednn", _always)
    config = fakes.config_for(data, fakes.write_policy(tmp_path / "p", data, kind), tmp_path / "o")
    own = replace(config, policy=replace(config.policy, sampling="lerobot"))
    answers, calls = [], []
    for each in (config, own):
        inputs = check(each)
        inputs.source.load((0,))
        policy = inputs.open_policy(each)
        batch = inputs.source.batch([(0, f, 0) for f in range(4)], keys=policy.spec.keys)
        asked.clear()
        answers.append(policy.predict(batch).actions.values)
        calls.append(len(asked))
    assert calls[0] > 0 == calls[1]
    np.testing.assert_allclose(*answers, rtol=0, atol=1e-5 * answers[1].std())


def _always(model: torch.nn.Module) -> bool:
    return by_onednn(model, idle=lambda: True)


def test_a_compiled_network_is_the_compilers_matter(asked: list[tuple[int, ...]]) -> None:
    network, x = _network(), torch.randn(2, 5)
    by_onednn(network, idle=lambda: True)
    with torch.inference_mode():
        torch.testing.assert_close(torch.compile(network, backend="eager")(x), _network()(x))
        assert asked == []
