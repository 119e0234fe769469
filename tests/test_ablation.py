"""What an input is worth: against hand-computed arrays, and policies whose use of it is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fakes
from policyscope.actions.spaces import NativeActions
from policyscope.checks.ablation import other_episodes
from policyscope.commands.check import check
from policyscope.commands.evaluate import evaluate
from policyscope.config import CheckConfig, DatasetConfig, EvalConfig, PolicyConfig, ReportConfig
from policyscope.data.frames import FrameBatch
from policyscope.errors import UsageError
from policyscope.metrics.ablation import effect
from policyscope.policies.base import Normalization, Policy, PolicySpec, Prediction


@given(st.lists(st.integers(0, 5), min_size=2, max_size=60), st.integers(0, 9))
def test_every_frame_gives_to_one_of_another_episode(episodes: list[int], seed: int) -> None:
    of = np.array(episodes)
    donors = other_episodes(of, seed)
    if donors is None:
        assert 2 * np.bincount(of).max() > len(of)
        return
    assert sorted(donors) == list(range(len(of)))
    assert (of[donors] != of).all()


def test_effect_by_hand() -> None:
    """Two steps, the second padded; errors of 1 and 3 std, a change of 2 std."""
    n = 12
    episode, std = np.repeat(np.arange(6), 2), np.array([2.0, 1e-9])
    target = np.zeros((n, 2, 2))
    own, other = target + np.array([2.0, 7.0]), target + np.array([6.0, 7.0])
    pad = np.tile([False, True], (n, 1))
    found = effect(own, other, target, pad, episode, std)
    assert (found.change.value, found.error.value, found.replaced.value) == (2, 1, 3)
    assert found.ratio.value == 3
    assert found.ratio.n_episodes == 6
    assert found.ratio.n_frames == n
    assert found.use == "needed"
    assert effect(other, own, target, pad, episode, std).use == "harmful"
    assert effect(own, own, target, pad, episode, std).use == "ignored"
    few = episode < 4
    unsure = effect(own[few], own[few], target[few], pad[few], episode[few], std)
    assert unsure.ratio.low is None


def test_a_change_is_ignored_only_if_its_interval_says_so() -> None:
    draw = np.random.default_rng(0)
    episode = np.repeat(np.arange(6), 20)
    target = np.zeros((120, 1, 1))
    own = target + draw.normal(size=target.shape)
    pad = np.zeros((120, 1), bool)
    small = own + 0.03 * np.abs(draw.normal(size=own.shape))
    assert effect(own, small, target, pad, episode, np.ones(1)).use == "ignored"
    one = np.where(episode[:, None, None] == 0, own + 0.2, own)  # 0.033 on average
    assert effect(own, one, target, pad, episode, np.ones(1)).use != "ignored"


class Known(Policy):
    """Answers with the state's numbers, and with what a picture says, if it is to look."""

    def __init__(self, *, looks: bool, reads: bool = False) -> None:
        self._looks, self._reads = looks, reads
        self.spec = PolicySpec(
            path="known",
            type="known",
            sha256=None,
            n_parameters=0,
            chunk_size=4,
            n_action_steps=2,
            normalization=Normalization("IDENTITY", "identity", "none"),
            keys=frozenset({fakes.STATE, fakes.IMAGE}),
        )

    def predict(self, batch: FrameBatch) -> Prediction:
        seen = batch.observations[-1]
        chunk = np.repeat(np.asarray(seen[fakes.STATE], np.float64)[:, None], 4, axis=1)
        if self._looks:
            chunk = chunk + seen[fakes.IMAGE][:, :1, :1, 0].astype(np.float64)
        if self._reads:
            chunk = chunk + np.array([len(text) for text in batch.task])[:, None, None]
        return Prediction(NativeActions(chunk, ("px", "px")), 0.001)


def _config(root: Path, out: Path, **settings: object) -> EvalConfig:
    return EvalConfig(
        dataset=DatasetConfig(repo_id="fake/data", root=str(root), action_units="px"),
        output_dir=str(out),
        latency_calls=0,
        device="cpu",
        ablate=True,
        **settings,  # type: ignore[arg-type]
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.write_dataset(
        tmp_path_factory.mktemp("ablation") / "data", tasks=("push", "pull it")
    )


def test_eval_tells_what_is_used(data: Path, tmp_path: Path) -> None:
    from policyscope.commands.report import render

    blind = evaluate(_config(data, tmp_path / "a"), policy=Known(looks=False)).record
    assert blind.ablation is not None
    rows = {row.key: row for row in blind.ablation.inputs}
    assert rows[fakes.IMAGE].use == "ignored"
    assert rows[fakes.IMAGE].change.value == 0
    assert rows[fakes.IMAGE].error_ratio.value == 1
    assert rows[fakes.STATE].use == "needed"
    assert rows["task"].use == "ignored"
    assert rows["task"].replaced_by == "another_task"
    codes = {f.code: f.severity for f in blind.findings}
    assert codes["camera_ignored"] == codes["instruction_ignored"] == "warning"
    page = render(ReportConfig(str(tmp_path / "a"), lang="zh")).read_text()
    assert "策略用到了哪些输入" in page
    sees = evaluate(_config(data, tmp_path / "b"), policy=Known(looks=True, reads=True)).record
    assert sees.ablation is not None
    rows = {row.key: row for row in sees.ablation.inputs}
    assert rows[fakes.IMAGE].use != "ignored"
    assert rows["task"].change.value == pytest.approx(3 * _mean_of_inverse_std(data))
    assert "camera_ignored" not in {f.code for f in sees.findings}


def _mean_of_inverse_std(root: Path) -> float:
    return float((1 / fakes.dataset_stats(root)["action"]["std"].double()).mean())


def test_the_error_of_own_inputs_is_that_of_the_stored_predictions(
    data: Path, tmp_path: Path
) -> None:
    """All frames are asked about, so both are the same mean."""
    record = evaluate(_config(data, tmp_path / "o"), policy=Known(looks=True)).record
    assert record.ablation is not None
    assert record.ablation.n_frames == record.dataset.n_frames
    assert record.ablation.error.value == pytest.approx(record.summary.chunk.nmae.value)


def test_nothing_to_replace_is_said_at_once(data: Path, tmp_path: Path) -> None:
    held = _config(data, tmp_path / "o", policy=PolicyConfig(type="hold_state"))
    with pytest.raises(UsageError, match="reads pictures or states"):
        evaluate(held)
    with pytest.raises(UsageError, match="two episodes"):
        evaluate(_config_of_one(data, tmp_path / "p"), policy=Known(looks=True))


def _config_of_one(root: Path, out: Path) -> EvalConfig:
    data = DatasetConfig(repo_id="fake/data", root=str(root), action_units="px", episodes="0")
    return EvalConfig(dataset=data, output_dir=str(out), latency_calls=0, ablate=True)


def test_a_finished_run_is_not_asked_again_in_silence(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    plain = EvalConfig(
        dataset=DatasetConfig(repo_id="fake/data", root=str(data), action_units="px"),
        output_dir=str(out),
        latency_calls=0,
        device="cpu",
    )
    evaluate(plain, policy=Known(looks=True))
    with pytest.raises(UsageError, match="complete without"):
        evaluate(_config(data, out, resume=True), policy=Known(looks=True))


def test_check_tells_of_one_task_and_a_camera(tmp_path: Path) -> None:
    one = fakes.write_dataset(tmp_path / "d")
    policy = fakes.write_policy(tmp_path / "p", one, "smolvla")
    config = CheckConfig(
        policy=PolicyConfig(path=str(policy)),
        dataset=DatasetConfig(repo_id="fake/data", root=str(one), action_units="px"),
        device="cpu",
        frames=40,
    )
    found = {f.code: f for f in check(config).findings}
    assert "its use can't be judged by the error" in found["inputs_used"].message
    assert "instruction_ignored" not in found or found["instruction_ignored"].severity == "info"
