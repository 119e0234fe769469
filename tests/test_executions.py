"""One set of predictions run in many ways, against plain loops: ours and lerobot's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fakes
from policyscope.actions.meanings import Meaning
from policyscope.actions.spaces import ActionSchema, NativeActions
from policyscope.commands.cli import main
from policyscope.commands.evaluate import evaluate
from policyscope.commands.executions import execute
from policyscope.commands.report import ReportConfig, render
from policyscope.config import ExecuteConfig
from policyscope.config.executions import Execution, chosen_executions, parse_executions
from policyscope.errors import OutputError, UsageError
from policyscope.metrics.ensembling import Ensemble, executed
from policyscope.metrics.executions import Executions, course
from policyscope.metrics.stitched import stitches
from policyscope.metrics.sums import Measure
from policyscope.policies.noise import noise_seed, standard_normal
from policyscope.runs.directory import RunDirectory

STATS = {"mean": [0.0], "std": [2.0]}


def _measure(horizon: int, schema: ActionSchema | None = None, kind: str = "absolute") -> Measure:
    schema = schema or ActionSchema(("x",), ("px",))
    return Measure.of(
        schema, STATS, horizon=horizon, n_action_steps=horizon, fps=10.0, action_kind=kind
    )


# ── the flag ──────────────────────────────────────────────────────────


def test_ways_are_read() -> None:
    assert parse_executions("auto") is None
    assert parse_executions("none") == ()
    wanted = (Execution(1), Execution(8), Execution(1, 0.01), Execution(1, -0.2))
    assert parse_executions("1, 8,ensemble,ensemble:-0.2,8") == wanted


@pytest.mark.parametrize("text", ["", "0", "-1", "x", "ensemble:", "ensemble:nan", "1,,2", "1e3"])
def test_other_ways_are_one_line(text: str) -> None:
    with pytest.raises(UsageError, match=r"--execute 1,8,16,ensemble"):
        parse_executions(text)


def test_a_way_that_needs_other_chunks_is_refused() -> None:
    auto = chosen_executions(None, horizon=16, n_action_steps=6, stride=1)
    assert [w.steps for w in auto] == [1, 2, 4, 6, 8, 16, 1]
    assert [w.steps for w in chosen_executions(None, horizon=16, n_action_steps=6, stride=4)] == [
        4,
        8,
        16,
    ]
    for wanted in (Execution(3), Execution(1, 0.01)):
        with pytest.raises(UsageError, match="multiples of 2"):
            chosen_executions((wanted,), horizon=16, n_action_steps=6, stride=2)
    with pytest.raises(UsageError, match="at most 16"):
        chosen_executions((Execution(17),), horizon=16, n_action_steps=6, stride=1)


# ── by hand ───────────────────────────────────────────────────────────


def test_error_seam_jerk_and_path_by_hand() -> None:
    """A demonstration that goes on by 1; chunks that begin right and fall behind by 1 a step."""
    n, horizon = 6, 3
    at = np.arange(n)[:, None] + np.arange(horizon)
    target = np.minimum(at, n - 1).astype(float)[..., None]
    chunks = np.repeat(np.arange(n, dtype=float)[:, None], horizon, axis=1)[..., None]
    runs = Executions(_measure(horizon), [Execution(1), Execution(3)])
    runs.add([chunks], target, at >= n, np.arange(n), {"still": target})
    one, three = runs.rows()
    assert (one.mae.value, one.seam, one.path, one.jerk) == (0.0, 1.0, 1.0, None)
    # run: 0 0 0 3 3 3 against 0 1 2 3 4 5
    assert three.mae.value == pytest.approx((0 + 1 + 2 + 0 + 1 + 2) / 6)
    assert three.nmae.value == pytest.approx(0.5)
    assert (three.n_seams, three.seam, three.path) == (1, 3.0, pytest.approx(3 / 5))
    assert three.baselines == {"still": 0.0}
    assert (one.calls_per_s, three.calls_per_s) == (10.0, pytest.approx(10 / 3))


def test_jerk_is_over_the_demonstrations_own() -> None:
    demo = np.array([0.0, 1, 0, 1, 0, 1])
    pad = np.zeros((6, 1), bool)
    runs = Executions(_measure(1), [Execution(1)])
    runs.add([3 * demo[:, None, None]], demo[:, None, None], pad, np.arange(6))
    (row,) = runs.rows()
    assert (row.jerk, row.path) == (pytest.approx(3.0), pytest.approx(3.0))


def test_displacements_have_no_seam_and_add_up_over_the_episode() -> None:
    moved = ActionSchema(("x",), ("m",), (Meaning("position", ("x",), (0,), "m", delta=True),))
    demo = np.ones((6, 1, 1))
    runs = Executions(_measure(1, moved, "delta"), [Execution(1)])
    runs.add([2 * demo], demo, np.zeros((6, 1), bool), np.arange(6))
    (row,) = runs.rows()
    assert row.seam is None
    assert row.path == pytest.approx(2.0)
    assert row.mae.value == pytest.approx(1.0)


@settings(max_examples=30)
@given(st.integers(1, 20), st.integers(1, 6), st.floats(-0.5, 0.5))
def test_ensembles_of_all_frames_are_those_step_by_step(n: int, horizon: int, c: float) -> None:
    chunks = np.random.default_rng(n).normal(size=(n, horizon, 2))
    one = Ensemble(c, horizon)
    expected = np.stack([one.act(chunk) for chunk in chunks])
    found = executed(NativeActions(chunks, ("", "")), c).values[:, 0]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_sums_add_up() -> None:
    draw = np.random.default_rng(0)
    whole = Executions(_measure(4), [Execution(2), Execution(1, 0.1)])
    for n in (7, 9):
        pad = np.arange(n)[:, None] + np.arange(4) >= n
        chunks, target = draw.normal(size=(2, n, 4, 1))
        whole.add([chunks, target], target, pad, np.arange(n))
    frames = whole.sums.n_frames.sum(axis=0)
    assert frames.tolist() == [16, 16]
    assert whole.sums.error.shape == (2, 2, 1, 2)
    expected = whole.sums.error.sum(axis=0)[0, 0] / frames
    assert [row.mae.value for row in whole.rows()] == pytest.approx(expected.tolist())


# ── lerobot's own loop ────────────────────────────────────────────────

NOISE = {"smolvla": (6, 4), "diffusion": (8, 2)}


def _loop(policy: Path, data: Path, m: int | None, coefficient: float | None) -> np.ndarray:
    """Episode 1 by lerobot's classes and ``select_action``, frame by frame: [T, A]."""
    from lerobot.configs import PreTrainedConfig
    from lerobot.datasets import LeRobotDataset
    from lerobot.policies.factory import get_policy_class, make_pre_post_processors

    config: Any = PreTrainedConfig.from_pretrained(policy)
    config.n_action_steps = m or config.n_action_steps
    if coefficient is not None:
        config.n_action_steps, config.temporal_ensemble_coeff = 1, coefficient
    network: Any = get_policy_class(config.type).from_pretrained(policy, config=config).eval()
    pre, post = make_pre_post_processors(config, pretrained_path=str(policy))
    network.reset()
    actions = []
    for frame in LeRobotDataset("fake/data", root=data, episodes=[1]):
        seen = {k: v for k, v in frame.items() if k.startswith("observation") or k == "task"}
        noise = {}
        if config.type in NOISE:
            seed = noise_seed(0, 1, int(frame["frame_index"]), 0)
            noise = {"noise": standard_normal(NOISE[config.type], seed)[None]}
        with torch.inference_mode():
            actions.append(np.asarray(post(network.select_action(pre(seen), **noise))[0]))
    return np.stack(actions)


def _equal_to_lerobots(
    kind: str, data: Path, tmp_path: Path, horizon: int, ways: list[Execution], **said: Any
) -> None:
    policy = fakes.write_policy(tmp_path / "policy", data, kind, **said)
    out = tmp_path / "out"
    record = evaluate(fakes.config_for(data, policy, out, episodes="1")).record
    assert record.policy.chunk_size == horizon
    (stored,) = RunDirectory(out).stored()
    for way in ways:
        at = stitches(stored.frame_index, stored.is_pad, way.steps)
        run = course(stored.predicted[0].values, at, way)
        loop = _loop(policy, data, way.steps, way.coefficient)
        np.testing.assert_allclose(run.values, loop, rtol=1e-4, atol=2e-3, err_msg=str(way))
    rows = {r.n_action_steps: r for r in record.executions if r.ensembling is None}
    demo = stored.target.values[:, 0]
    for m in (1, horizon):
        wanted = np.abs(_loop(policy, data, m, None) - demo).mean()
        assert rows[m].mae.value == pytest.approx(wanted, rel=1e-4)


def test_acts_chunks_are_run_as_lerobot_runs_them(data: Path, tmp_path: Path) -> None:
    """Every number of steps, and its own temporal ensemble, from one set of predictions."""
    ways = [*map(Execution, range(1, 7)), Execution(1, 0.01), Execution(1, -0.3)]
    _equal_to_lerobots("act", data, tmp_path, 6, ways, n_action_steps=6, seed=3)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "horizon", "said"), [("smolvla", 6, {}), ("diffusion", 7, {})])
def test_other_chunks_are_run_as_lerobot_runs_them(
    kind: str, horizon: int, said: dict[str, Any], data: Path, tmp_path: Path
) -> None:
    ways = [*map(Execution, range(1, horizon + 1))]
    _equal_to_lerobots(kind, data, tmp_path, horizon, ways, n_action_steps=horizon, **said)


# ── commands ──────────────────────────────────────────────────────────


def test_a_stored_run_is_run_again_without_policy_or_dataset(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = fakes.write_dataset(tmp_path / "d")
    out = tmp_path / "o"
    run = evaluate(fakes.config_for(root, "repeat_last", out, execute="1,3,ensemble", samples=2))
    for file in sorted(root.rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    _, rows = execute(ExecuteConfig(str(out), "1,3,ensemble"))
    for row, held in zip(rows, run.record.executions, strict=True):
        assert row.model_copy(update={"baselines": held.baselines}) == held
    with pytest.raises(SystemExit):
        main(["execute", str(out), "--execute", "2,6", "--format", "json"])
    assert [row["n_action_steps"] for row in json.loads(capsys.readouterr().out)] == [2, 6]
    with pytest.raises(SystemExit):
        main(["execute", str(out), "--lang", "zh"])
    assert "几步后再询问" in capsys.readouterr().out
    page = render(ReportConfig(str(out))).read_text()
    assert "How often the policy is asked" in page


def test_a_larger_stride_says_what_it_can_not_run(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--stride 1"):
        evaluate(fakes.config_for(data, "repeat_last", tmp_path / "o", stride=2, execute="1"))
    run = evaluate(fakes.config_for(data, "repeat_last", tmp_path / "p", stride=2))
    assert [row.n_action_steps for row in run.record.executions] == [2, 4, 6]
    none = evaluate(fakes.config_for(data, "repeat_last", tmp_path / "q", execute="none"))
    assert not none.record.executions


def test_what_is_no_evaluation_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no such directory"):
        execute(ExecuteConfig(str(tmp_path / "none")))
