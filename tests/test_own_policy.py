"""A policy of a stranger's: named at the command line, tried on its contract."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, final

import numpy as np
import pytest

import fakes
from policyscope.commands.check import check
from policyscope.commands.evaluate import evaluate
from policyscope.config import CheckConfig, DatasetConfig, EvalConfig, PolicyConfig, RolloutConfig
from policyscope.errors import InputError, UsageError
from policyscope.policies.own import open_own
from policyscope.testing import (
    FrameBatch,
    NativeActions,
    Policy,
    PolicySpec,
    Prediction,
    check_policy,
    make_batch,
    make_robot,
)

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "write_a_policy"
ROBOT = make_robot(action_dim=2, state_dim=2, cameras={fakes.IMAGE: (3, 8, 8)}, units=("px", "px"))

Predict = Callable[[FrameBatch], Any]


@final
class Tried(Policy):
    """A policy with one fault, or with none."""

    def __init__(self, predict: Predict | None = None, **spec: Any) -> None:
        known = {"chunk_size": 4, "n_action_steps": 2, "keys": frozenset({fakes.STATE}), **spec}
        self.spec, self._how = PolicySpec(path="t", type="t", **known), predict

    def predict(self, batch: FrameBatch) -> Prediction:
        answer = (self._how or held)(batch)
        if isinstance(answer, Prediction):
            return answer
        return Prediction(NativeActions(answer, ROBOT.actions.units), 0.0)


def held(batch: FrameBatch) -> Any:
    return np.repeat(batch.observations[-1][fakes.STATE][:, None], 4, axis=1)


def writes(batch: FrameBatch) -> Any:
    chunks = held(batch)
    batch.observations[-1][fakes.STATE][:] = 0  # type: ignore[index]
    return chunks


def normalized(batch: FrameBatch) -> Any:
    chunks = held(batch)
    return chunks - chunks.mean(axis=0)


def shuffled(batch: FrameBatch) -> Any:
    chunks = held(batch)
    return chunks + np.arange(len(batch))[:, None, None]


_DRAW = np.random.default_rng(0)


def noisy(batch: FrameBatch) -> Any:
    return held(batch) + _DRAW.normal(size=(1, 4, 2))


def raises(_: FrameBatch) -> Any:
    raise ZeroDivisionError("no such thing\nmore")


def test_a_policy_that_keeps_the_contract() -> None:
    assert check_policy(Tried(), ROBOT) == []
    assert check_policy(lambda _: Tried(steps=(-2, 0)), ROBOT) == []


@pytest.mark.parametrize(
    ("policy", "code", "said"),
    [
        (Tried(n_action_steps=5), "policy_spec", "5 of 4"),
        (Tried(steps=(0, 1)), "policy_spec", "in the present"),
        (Tried(steps=()), "policy_spec", "in the present"),
        (Tried(keys=frozenset({"observation.nose"})), "policy_spec", "observation.nose"),
        (Tried(raises), "policy_answer", "ZeroDivisionError: no such thing"),
        (Tried(chunk_size=5), "policy_answer", r"\[5, 5, 2\].*found \[5, 4, 2\]"),
        (Tried(lambda b: held(b) * np.nan), "policy_answer", "NaN or inf"),
        (
            Tried(lambda b: Prediction(NativeActions(held(b), ("m", "m")), 0.0)),
            "policy_answer",
            "in m, m",
        ),
        (
            Tried(lambda b: Prediction(NativeActions(held(b), ("px", "px")), -1.0)),
            "policy_answer",
            "model_s in seconds",
        ),
        (Tried(lambda _: None), "policy_answer", r"found shape \(\)"),
        (Tried(writes), "policy_writes", "changed"),
        (Tried(noisy), "policy_memory", "of earlier calls"),
        (Tried(normalized), "policy_batch", "asked one by one"),
        (Tried(shuffled), "policy_batch", "asked one by one"),
        (Tried(lambda b: np.ones((len(b), 4, 2))), "policy_constant", "5 different frames"),
        (Tried(noisy, draws="unseeded"), "policy_not_reproducible", "unseeded"),
    ],
)
def test_what_breaks_the_contract(policy: Tried, code: str, said: str) -> None:
    (found,) = check_policy(policy, ROBOT)
    assert found.code == code
    assert re.search(said, found.message)


def test_random_frames_are_as_they_are_said_to_be() -> None:
    batch = make_batch(ROBOT, n_frames=3, steps=(-1, 0))
    assert len(batch) == 3
    assert len(batch.observations) == 2
    picture, state = (batch.observations[0][key] for key in (fakes.IMAGE, fakes.STATE))
    assert (picture.shape, picture.dtype) == ((3, 3, 8, 8), np.uint8)
    assert (state.shape, state.dtype) == ((3, 2), np.float32)
    again = make_batch(ROBOT, n_frames=3, steps=(-1, 0))
    assert np.array_equal(again.observations[0][fakes.IMAGE], picture)


def test_it_needs_no_torch() -> None:
    code = "import sys, policyscope.testing; print({'torch', 'lerobot'} & sys.modules.keys())"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "set()"


# ── by name ───────────────────────────────────────────────────────────


def dataset(data: Path) -> DatasetConfig:
    return DatasetConfig(repo_id="fake/data", root=str(data), action_units="px")


def test_the_example_is_evaluated(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(EXAMPLE)
    policy, path = PolicyConfig(type="drift:Drift"), list(sys.path)
    config = EvalConfig(
        policy=policy, dataset=dataset(data), output_dir=str(tmp_path / "a"), latency_calls=0
    )
    run = evaluate(config)
    assert run.record["policy"]["type"] == "drift"
    assert sys.path == path
    # by hand: the state goes on as between the two last frames; at the first frame it stands still
    from policyscope.data.source import FrameSource

    source = FrameSource(dataset(data), repo_id="fake/data")
    source.load([0])
    state = source.episode(0).state
    assert state is not None
    stored = run_predictions(run.directory, 0)
    assert stored[0] == pytest.approx(np.tile(state[0], (16, 1)), rel=1e-6)
    ahead = np.arange(1, 17)[:, None]
    assert stored[3] == pytest.approx(state[3] + ahead * (state[3] - state[2]), rel=1e-5)
    found = check(CheckConfig(policy=policy, dataset=dataset(data))).findings
    assert not {f.code for f in found if f.code.startswith("policy_")}


def run_predictions(run: Path, episode: int) -> Any:
    import pyarrow.parquet as pq

    table = pq.read_table(run / "predictions.parquet").to_pandas()
    rows = table[table.episode_index == episode].sort_values("frame_index")
    return np.stack(rows["predicted"].to_numpy()).reshape(len(rows), -1, 2)


def write(folder: Path, body: str) -> None:
    head = "from policyscope.testing import *\nfrom policyscope.testing import Policy\n"
    (folder / "mine_for_test.py").write_text(head + body)


@pytest.mark.parametrize(
    ("name", "body", "said"),
    [
        ("nowhere_at_all:X", "", "ModuleNotFoundError"),
        ("mine_for_test:Missing", "", "AttributeError"),
        ("mine_for_test:X", "1/0", "ZeroDivisionError"),
        ("mine_for_test:X", "class X: pass", r"called with the robot.*TypeError"),
        ("mine_for_test:X", "def X(robot): return 3", "expected a policy; found a int"),
        ("mine_for_test:X", "def X(robot): raise KeyError('a\\nb')", "KeyError"),
    ],
)
def test_a_name_that_leads_to_no_policy(
    name: str, body: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, body)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mine_for_test", raising=False)
    with pytest.raises(UsageError, match=said) as found:
        open_own(name, ROBOT)
    assert "\n" not in str(found.value)


def test_what_lies_in_the_working_directory_hides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wave.py").write_text("raise SystemExit('run')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    with pytest.raises(UsageError, match="expected a policy; found a Error"):  # Python's own wave
        open_own("wave:Error", ROBOT)


@pytest.mark.parametrize("name", ["magic", "hold_stat", "a b:C", ":X", "x:", "../x:Y", "x:Y()"])
def test_names_that_are_none(name: str, data: Path) -> None:
    with pytest.raises(InputError, match=r"hold_state, .*my_module:MyPolicy"):
        EvalConfig(policy=PolicyConfig(type=name), dataset=dataset(data))


def test_a_broken_one_is_refused_by_check(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(
        tmp_path,
        """
import numpy as np
class Moody(Policy):
    def __init__(self, robot):
        self.spec = PolicySpec(path="m", type="m", chunk_size=4, n_action_steps=4)
        self.units, self.n = robot.actions.units, 0
    def predict(self, batch):
        self.n += 1
        return Prediction(NativeActions(np.full((len(batch), 4, 2), self.n), self.units), 0.0)
""",
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mine_for_test", raising=False)
    config = CheckConfig(policy=PolicyConfig(type="mine_for_test:Moody"), dataset=dataset(data))
    errors = [f.code for f in check(config).findings if f.severity == "error"]
    assert errors == ["policy_memory"]


def test_in_closed_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gym_pusht", reason="the extra pusht is not installed")
    from dataclasses import replace

    from policyscope.commands.rollout import rollout

    monkeypatch.chdir(EXAMPLE)
    config = RolloutConfig(
        policy=PolicyConfig(type="drift:Drift"),
        env=replace(RolloutConfig().env, episode_length=20),
        output_dir=str(tmp_path / "a"),
        n_episodes=1,
        latency_calls=0,
        n_action_steps=5,
        video="none",
    )
    record = rollout(config).record
    assert record.episodes[0].n_calls == 4  # of five steps each, not of eight
    assert record["policy"]["n_action_steps"] == 5


def test_the_documentation_shows_the_example() -> None:
    shown = (EXAMPLE.parents[1] / "docs" / "policies.md").read_text().split("```python\n")[1]
    assert shown.split("```")[0] in (EXAMPLE / "drift.py").read_text()
