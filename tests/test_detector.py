"""The detector: statistics against arrays worked out by hand, verdicts on injected mistakes, and
mistakes in checkpoints against the same mistakes in stored predictions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detector.faults import FAULTS, Case
from safetensors.torch import load_file, save_file

from policyscope.actions.spaces import ActionSchema, NativeActions, Normalizer
from policyscope.checks.detector.decide import judge
from policyscope.checks.detector.findings import examine
from policyscope.checks.detector.hypotheses import Declared, Sample
from policyscope.checks.detector.statistics import CAP, fit, spearman, spread
from policyscope.commands.check import check
from policyscope.commands.cli import main
from policyscope.commands.evaluate import evaluate
from policyscope.config import DatasetConfig, EvalConfig, PolicyConfig

STATS = {
    "mean": np.array([200.0, 300.0, -0.4, 1.2]),
    "std": np.array([70.0, 60.0, 0.3, 0.5]),
    "min": np.array([10.0, 90.0, -1.3, -0.4]),
    "max": np.array([500.0, 480.0, 0.9, 2.6]),
}
UNITS = ("px", "px", "rad", "rad")


def made(error: float = 0.3, n_episodes: int = 4, seed: int = 0) -> tuple[Case, np.ndarray]:
    """Smooth demonstrations in mixed units, and a policy off by `error` standard deviations."""
    draw = np.random.default_rng(seed)
    time = np.arange(60)[:, None] / 20
    waves = [
        np.sin(time * draw.uniform(1, 3, 4) + draw.uniform(0, 6, 4)) * 1.3
        for _ in range(n_episodes)
    ]
    z = np.stack([w[t : t + 8] for w in waves for t in range(50)])
    target = STATS["mean"] + STATS["std"] * z
    predicted = target + STATS["std"] * error * draw.normal(size=z.shape)
    door = Normalizer.from_stats({"action": STATS}, mode="MEAN_STD", units=UNITS)
    state = target[:, 0] - STATS["std"] * 0.1
    angles, alive = np.array([u == "rad" for u in UNITS]), np.ones(4, dtype=bool)
    episode = np.repeat(np.arange(n_episodes), 50)
    return Case(predicted, target, state, door, STATS, angles, alive), episode


def verdict(case: Case, episode: np.ndarray, units: tuple[str, ...] = UNITS) -> str:
    return judge(*sample(case, episode, units)).code


def sample(
    case: Case, episode: np.ndarray, units: tuple[str, ...] = UNITS
) -> tuple[Sample, Declared]:
    names = tuple("abcd"[: len(units)])
    door = Normalizer.from_stats({"action": STATS}, mode="MEAN_STD", units=units)
    declared = Declared(
        ActionSchema(names, units), door, case.stats["std"], case.stats["min"], case.stats["max"]
    )
    actions = (NativeActions(case.predicted, units), NativeActions(case.target, units))
    pad = np.zeros(case.target.shape[:2], dtype=bool)
    return Sample(*actions, pad, episode, case.state), declared


def test_fit_by_hand() -> None:
    target = np.linspace(-1, 1, 101)[:, None]
    one = (np.quantile(target, 0.9) - np.quantile(target, 0.1)) / 2.563
    assert spread(target)[0] == pytest.approx(one)
    assert fit(target, target).cost[0] == 0
    moved = fit(target + 2 * one, target)
    assert moved.shift[0] == pytest.approx(2)
    assert moved.residual[0] == pytest.approx(2)
    assert moved.cost[0] == pytest.approx(4 + 2 * np.log(5))
    grown = fit(3 * target, target)
    assert grown.log_scale[0] == pytest.approx(np.log(3))
    assert fit(100 * target, target).cost[0] == pytest.approx(
        CAP + 2 * np.log1p(fit(100 * target, target).residual[0] ** 2)
    )
    assert fit(target + 2 * one, target, 4 * one).shift[0] == pytest.approx(0.5)


def test_spread_of_a_gripper_that_rests_most_of_the_time() -> None:
    values = np.zeros((100, 1))
    values[:5] = 1
    assert spread(values)[0] == pytest.approx(values.std())


def test_spearman_by_hand() -> None:
    a = np.array([[1.0, 5, 7], [2, 4, 7], [3, 3, 7], [9, 2, 7]])
    found = spearman(a, a)
    np.testing.assert_allclose(found[:2, :2], [[1, -1], [-1, 1]], atol=1e-12)
    assert not found[2].any()  # a dim that rests has no rank correlation


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("error", [0.05, 0.4])
def test_verdicts(fault: str, error: float) -> None:
    case, episode = made(error)
    inject, expected = FAULTS[fault]
    broken = inject(case, np.random.default_rng(1))
    units = ("px", "px", "deg", "deg") if fault == "radians" else UNITS
    if fault == "other_mode" or (fault == "delta" and error == 0.4):
        expected = verdict(broken, episode, units)  # hints at best: see docs/detector.md
    assert verdict(broken, episode, units) == expected


def test_severities_and_evidence() -> None:
    case, episode = made()
    assert examine(*sample(case, episode)) == ()
    (finding,) = examine(*sample(FAULTS["not_unnormalized"][0](case, _draw()), episode))
    assert (finding.code, finding.severity) == ("suspect_not_unnormalized", "error")
    assert "MEAN_STD" in finding.message
    assert "Suspect" in finding.message
    row = finding.to_json()
    assert row["evidence"]["rank_correlation"] > 0.9
    assert row["evidence"]["cost_hypothesis"] < 1 < row["evidence"]["cost"]
    (finding,) = examine(*sample(FAULTS["permuted"][0](case, _draw()), episode))
    assert (finding.code, finding.severity) == ("suspect_permuted", "warning")


def test_two_episodes_are_too_few() -> None:
    case, episode = made(n_episodes=2)
    *_, finding = examine(*sample(FAULTS["not_unnormalized"][0](case, _draw()), episode))
    assert (finding.code, finding.severity) == ("predictions_unexamined", "info")


def test_dataset_that_looks_normalized_is_not_checkable() -> None:
    """Zero means and unit deviations: normalized and native are the same numbers."""
    case, episode = made()
    z = (case.target - STATS["mean"]) / STATS["std"]
    units = ("native",) * 4
    door = Normalizer.from_stats(
        {"action": {"mean": np.zeros(4), "std": np.ones(4)}}, mode="MEAN_STD", units=units
    )
    declared = Declared(ActionSchema(tuple("abcd"), units), door, np.ones(4))
    pad = np.zeros(z.shape[:2], dtype=bool)
    alike = Sample(NativeActions(z, units), NativeActions(z, units), pad, episode, None)
    assert [f.code for f in examine(alike, declared)] == ["predictions_not_checkable"]
    found = judge(alike, declared)
    assert found.code == "clear"
    assert "suspect_not_unnormalized" in found.unchecked


def test_frozen_saturated_outside() -> None:
    case, episode = made(0.05)
    still = Case(**{**vars(case), "predicted": np.repeat(case.predicted[:, :1], 8, axis=1)})
    assert [f.code for f in examine(*sample(still, episode))] == ["suspect_frozen"]
    pinned = case.predicted.copy()
    pinned[::3, :, 1] = STATS["max"][1]
    codes = [f.code for f in examine(*sample(Case(**{**vars(case), "predicted": pinned}), episode))]
    assert codes == ["suspect_saturated"]
    outside = case.predicted.copy()
    outside[::12, :, 2] = STATS["max"][2] + 1.0
    codes = [
        f.code for f in examine(*sample(Case(**{**vars(case), "predicted": outside}), episode))
    ]
    assert codes == ["out_of_range"]


def _draw() -> np.random.Generator:
    return np.random.default_rng(0)


def _native(policy: Path, root: Path, **settings: Any) -> tuple[np.ndarray, Any, Any]:
    """Predictions of some frames through the real processors."""
    config = EvalConfig(
        policy=PolicyConfig(path=str(policy)),
        dataset=DatasetConfig(repo_id="fake/data", root=str(root), action_units="px"),
        device="cpu",
        **settings,
    )
    inputs = check(config)
    opened = inputs.open_policy(config)
    rows = [(e, f, 0) for e in range(4) for f in range(6)]
    batch = inputs.source.batch(rows, keys=opened.spec.keys, steps=opened.spec.steps)
    return opened.predict(batch).actions.values, inputs, batch


def _post_stats(policy: Path, change: Any) -> None:
    (file,) = policy.glob("policy_postprocessor_step_*unnormalizer*.safetensors")
    stats = load_file(file)
    change(stats)
    save_file(stats, file)


def _drop_step(policy: Path) -> None:
    file = policy / "policy_postprocessor.json"
    content = json.loads(file.read_text())
    content["steps"] = [s for s in content["steps"] if "unnorm" not in s["registry_name"]]
    file.write_text(json.dumps(content))


def _second_step(policy: Path) -> None:
    file = policy / "policy_postprocessor.json"
    content = json.loads(file.read_text())
    at = next(i for i, s in enumerate(content["steps"]) if "unnorm" in s["registry_name"])
    content["steps"].insert(at, content["steps"][at])
    file.write_text(json.dumps(content))


def _swap_mode(policy: Path) -> None:
    file = policy / "policy_postprocessor.json"
    content = json.loads(file.read_text())
    for step in content["steps"]:
        if "unnorm" in step["registry_name"]:
            step["config"]["norm_map"]["ACTION"] = "MIN_MAX"
    file.write_text(json.dumps(content))


def _network(order: list[int], sign: list[float]) -> Any:
    """Permute and flip the rows of the last layer."""

    def change(policy: Path) -> None:
        weights = load_file(policy / "model.safetensors")
        for name in ("model.action_head.weight", "model.action_head.bias"):
            factor = torch.tensor(sign).reshape(-1, *[1] * (weights[name].ndim - 1))
            weights[name] = (weights[name][order] * factor).contiguous()
        save_file(weights, policy / "model.safetensors")

    return change


def _other(stats: dict[str, torch.Tensor]) -> None:
    stats["action.mean"] = stats["action.mean"] + 50
    stats["action.std"] = stats["action.std"] * 3


def _to_radians(stats: dict[str, torch.Tensor]) -> None:
    for name in ("action.mean", "action.std"):
        stats[name] = stats[name] * torch.pi / 180


def _affine(door: Normalizer, values: np.ndarray, how: str) -> np.ndarray:
    """The same mistakes, in the benchmark's own formulas."""
    case = Case(values, values, None, door, {}, np.ones(2, dtype=bool), np.ones(2, dtype=bool))
    draw = np.random.default_rng(0)
    if how in FAULTS:
        return FAULTS[how][0](case, draw).predicted
    z = (values - door.offset) / door.divisor
    if how == "other":
        return z * door.scale * 3 + door.offset + 50
    if how == "in radians":
        return values * np.pi / 180
    if how == "swapped":
        return z[..., [1, 0]] * door.scale + door.offset
    return z * np.array([-1.0, 1.0]) * door.scale + door.offset


@pytest.mark.parametrize(
    ("change", "how"),
    [
        (_drop_step, "not_unnormalized"),
        (_second_step, "unnormalized_twice"),
        (lambda p: _post_stats(p, _other), "other"),
        (lambda p: _post_stats(p, _to_radians), "in radians"),
        (_network([1, 0], [1.0, 1.0]), "swapped"),
        (_network([0, 1], [-1.0, 1.0]), "flipped"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_mistakes_in_the_checkpoint_equal_those_in_its_predictions(
    change: Any, how: str, data: Path, act: Path, tmp_path: Path
) -> None:
    whole, inputs, _ = _native(act, data)
    policy = tmp_path / "p"
    shutil.copytree(act, policy)
    change(policy)
    broken, _, _ = _native(policy, data, force=True)
    stats = inputs.checkpoint.unnormalizer.stats
    door = Normalizer.from_stats(stats, mode="MEAN_STD", units=("px", "px"))
    np.testing.assert_allclose(broken, _affine(door, whole, how), rtol=2e-4, atol=2e-3)


def test_swapped_mode_in_the_checkpoint(data: Path, act: Path, tmp_path: Path) -> None:
    whole, inputs, _ = _native(act, data)
    policy = tmp_path / "p"
    shutil.copytree(act, policy)
    _swap_mode(policy)
    broken, _, _ = _native(policy, data, force=True)
    stats = inputs.checkpoint.unnormalizer.stats
    door = Normalizer.from_stats(stats, mode="MEAN_STD", units=("px", "px"))
    table = {k: np.asarray(v, dtype=np.float64) for k, v in stats["action"].items()}
    ones = np.ones(2, dtype=bool)
    case = Case(whole, whole, None, door, table, ones, ones)
    expected = FAULTS["other_mode"][0](case, _draw()).predicted
    np.testing.assert_allclose(broken, expected, rtol=2e-4, atol=2e-3)
    codes = [f.code for f in check(_config(policy, data)).findings]
    assert "normalization_mode_mismatch" in codes


def _config(policy: Path, root: Path, **settings: Any) -> EvalConfig:
    return EvalConfig(
        policy=PolicyConfig(path=str(policy)),
        dataset=DatasetConfig(repo_id="fake/data", root=str(root), action_units="px"),
        device="cpu",
        **settings,
    )


@pytest.mark.slow
def test_check_on_the_shipped_policy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], shared: Path
) -> None:
    """A real network: clean as it is, named when its outputs are unnormalized twice."""
    from policyscope.commands.demo import DemoConfig, demo_config

    root = str(shared / "datasets" / "pusht")
    with demo_config(DemoConfig()) as config:
        policy = tmp_path / "p"
        shutil.copytree(str(config.policy.path), policy)
    who = ["check", "--policy.path", str(policy), "--dataset.repo_id", "lerobot/pusht"]
    who += ["--dataset.root", root, "--frames", "128", "--json"]
    assert _status(who) == 0
    good, used = json.loads(capsys.readouterr().out)
    assert (good["code"], good["severity"]) == ("sample_skill", "info")
    assert "found that it makes less" in good["message"]
    assert (used["code"], used["severity"]) == ("inputs_used", "info")
    assert "observation.image moves them by" in used["message"]
    _second_step(policy)
    assert _status(who) == 1
    row, *_ = json.loads(capsys.readouterr().out)
    assert (row["code"], row["severity"]) == ("suspect_unnormalized_twice", "error")
    run = evaluate(
        EvalConfig(
            policy=PolicyConfig(path=str(policy)),
            dataset=DatasetConfig(repo_id="lerobot/pusht", root=root, episodes="185:188"),
            output_dir=str(tmp_path / "o"),
            latency_calls=0,
            device="cpu",
        )
    )
    assert "suspect_unnormalized_twice" in [f["code"] for f in run.record["findings"]]


def _status(words: list[str]) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(words)
    return int(exit_.value.code or 0)
