"""A policy object of a user's, offline: arrays in, native chunks out, no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import final

import numpy as np
import pytest

import fakes
from policyscope.actions.spaces import FloatArray, NativeActions
from policyscope.commands.evaluate import evaluate
from policyscope.config import DatasetConfig, EvalConfig
from policyscope.data.frames import FrameBatch
from policyscope.errors import NonFiniteError, PolicyscopeError, SpaceError, UsageError
from policyscope.policies.base import Normalization, Policy, PolicySpec, Prediction


@final
class Holder(Policy):
    """Holds the state that it is shown, plus a constant."""

    def __init__(
        self, *, key: str = fakes.STATE, add: float = 0.0, horizon: int = 6, given: int = 6
    ) -> None:
        self.spec = PolicySpec(
            path="scripts/holder",
            type="holder",
            sha256=None,
            n_parameters=0,
            chunk_size=horizon,
            n_action_steps=3,
            normalization=Normalization("IDENTITY", "identity", "none"),
            keys=frozenset({key}),
        )
        self._key, self._add, self._given = key, add, given

    def predict(self, batch: FrameBatch) -> Prediction:
        state = batch.observations[-1][self._key]
        assert isinstance(state, np.ndarray)
        chunks: FloatArray = np.repeat(state[:, None] + self._add, self._given, axis=1)
        return Prediction(NativeActions(chunks, ("px", "px")), 0.001)


def config(data: Path, out: Path, **settings: object) -> EvalConfig:
    dataset = DatasetConfig(repo_id="fake/data", root=str(data), action_units="px")
    return EvalConfig(dataset=dataset, output_dir=str(out), latency_calls=0, **settings)  # type: ignore[arg-type]


def test_a_policy_object_is_scored_as_the_built_in_that_it_repeats(
    data: Path, tmp_path: Path
) -> None:
    ours = evaluate(config(data, tmp_path / "a"), policy=Holder()).record
    theirs = evaluate(fakes.config_for(data, "hold_state", tmp_path / "b")).record
    a, b = (r["summary"]["chunk"]["mae"]["value"] for r in (ours, theirs))
    assert a == pytest.approx(b, rel=1e-6)
    assert (ours["policy"]["path"], ours["policy"]["type"]) == ("scripts/holder", "holder")
    shifted = evaluate(config(data, tmp_path / "c"), policy=Holder(add=1e4)).record
    assert shifted["summary"]["step1"]["mae"]["value"] == pytest.approx(1e4, rel=0.01)


def test_another_object_does_not_continue_its_run(data: Path, tmp_path: Path) -> None:
    evaluate(config(data, tmp_path / "a"), policy=Holder())
    again = evaluate(config(data, tmp_path / "a", resume=True), policy=Holder())
    assert again.record["policy"]["type"] == "holder"
    other = Holder(horizon=5, given=5)
    with pytest.raises(PolicyscopeError, match="chunk_size"):
        evaluate(config(data, tmp_path / "a", resume=True), policy=other)


@pytest.mark.parametrize(
    ("policy", "kind", "said"),
    [
        (
            Holder(given=5),
            SpaceError,
            r"of shape \[\d+, 6, 2\].*found \[\d+, 5, 2\]",
        ),
        (Holder(add=float("nan")), NonFiniteError, "episode 0, frame 0"),
        (Holder(key="observation.nose"), UsageError, "observation.nose"),
        (Holder(horizon=2, given=2), UsageError, "n_action_steps between 1 and chunk_size"),
    ],
    ids=["shape", "NaN", "key", "spec"],
)
def test_an_object_that_answers_nonsense(
    policy: Policy, kind: type[Exception], said: str, data: Path, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=said):
        evaluate(config(data, tmp_path / "a"), policy=policy)


def test_without_an_object_a_policy_is_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="exactly one of them; found neither"):
        evaluate(config(data, tmp_path / "a"))
    assert not (tmp_path / "a").exists()


def test_the_contract_needs_no_torch() -> None:
    code = (
        "import sys, policyscope.policies.base, policyscope.data.frames, policyscope.data.pictures,"
        " policyscope.policies.open; print('torch' in sys.modules or 'lerobot' in sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "False"
