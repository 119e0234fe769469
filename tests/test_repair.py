"""Every kind of policy with and without its statistics: right units, or refused."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import fakes
from policyscope.commands.check import check
from policyscope.commands.evaluate import evaluate
from policyscope.errors import CheckpointError, RefusedError
from policyscope.policies.noise import noise_seed, standard_normal
from policyscope.runs.content import FindingRow
from policyscope.runs.directory import RunDirectory
from policyscope.runs.record import read_record
from policyscope.views.offline.words import subject
from policyscope.views.words import forced_notice

KINDS = [
    "act",
    "diffusion",
    "smolvla",
    "vqbet",
    "tdmpc",
    "multi_task_dit",
    "xvla",
    "pi0",
    "pi05",
]
RUN_CODE = ["gaussian_actor", "groot", "pi0_fast", "wall_x"]


@pytest.fixture(scope="module", autouse=True)
def small_pi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    tokenizer = tmp_path_factory.mktemp("hub") / "paligemma"
    fakes.write_tokenizer(tokenizer)
    with fakes.small_pi(tokenizer):
        yield


@pytest.fixture(scope="module")
def checkpoints(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("kinds")
    return {kind: fakes.write_policy(folder / kind, data, kind) for kind in KINDS}


def stored(out: Path) -> np.ndarray:
    return np.concatenate([e.predicted[0].values for e in RunDirectory(out).stored()])


def without_stats(policy: Path, features: tuple[str, ...] = ("action",), which: str = "p*") -> Path:
    for file in policy.glob(f"policy_{which}processor_step_*.safetensors"):
        kept = {k: v for k, v in load_file(file).items() if k.rsplit(".", 1)[0] not in features}
        save_file(kept, file)
    return policy


def copied(policy: Path, to: Path) -> Path:
    shutil.copytree(policy, to)
    return to


def codes(config: Any) -> list[str]:
    return [f.code for f in check(config).findings]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_with_and_without_statistics(
    kind: str, checkpoints: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    """Native with its statistics; refused without; native again with the dataset's."""
    whole = fakes.config_for(data, checkpoints[kind], tmp_path / "a", episodes="2", max_frames=4)
    evaluate(whole)
    native = stored(tmp_path / "a")
    assert 50 < np.abs(native).mean() < 200  # the dataset lies around 100, its std is about 30
    broken = without_stats(copied(checkpoints[kind], tmp_path / "p"))
    with pytest.raises(RefusedError, match=r"action_stats_missing: expected action\.m"):
        evaluate(fakes.config_for(data, broken, tmp_path / "b", episodes="2", max_frames=4))
    record = evaluate(
        fakes.config_for(data, broken, tmp_path / "c", episodes="2", max_frames=4, stats="dataset")
    ).record
    np.testing.assert_allclose(stored(tmp_path / "c"), native, rtol=1e-4, atol=1e-3)
    assert record["actions"]["normalization"]["source"] == "dataset"
    assert "--stats dataset" in subject(record)
    assert "stats_from_dataset" in [f["code"] for f in record["findings"]]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_without_processors(
    kind: str, checkpoints: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    """No processor files at all: refused, or made anew from the dataset's statistics."""
    evaluate(fakes.config_for(data, checkpoints[kind], tmp_path / "a", episodes="2", max_frames=4))
    bare = copied(checkpoints[kind], tmp_path / "p")
    for file in bare.glob("policy_p*processor*"):
        file.unlink()
    config = {"episodes": "2", "max_frames": 4}
    with pytest.raises(RefusedError, match="processor_missing"):
        evaluate(fakes.config_for(data, bare, tmp_path / "b", **config))
    evaluate(fakes.config_for(data, bare, tmp_path / "c", stats="dataset", **config))
    np.testing.assert_allclose(stored(tmp_path / "c"), stored(tmp_path / "a"), rtol=1e-4, atol=1e-3)


def lerobots_own(policy: Path, data: Path) -> np.ndarray:
    """The chunk of episode 2, frame 0, by lerobot's classes and control loop alone: [H, A]."""
    from lerobot.configs import PreTrainedConfig
    from lerobot.datasets import LeRobotDataset
    from lerobot.policies.factory import get_policy_class, make_pre_post_processors

    config: Any = PreTrainedConfig.from_pretrained(policy)
    network: Any = get_policy_class(config.type).from_pretrained(policy, config=config).eval()
    pre, post = make_pre_post_processors(config, pretrained_path=str(policy))
    frame = LeRobotDataset("fake/data", root=data, episodes=[2])[0]
    assert (int(frame["episode_index"]), int(frame["frame_index"])) == (2, 0)
    observed = {k: v for k, v in frame.items() if k.startswith("observation") or k == "task"}
    seed = noise_seed(0, 2, 0, 0)
    torch.manual_seed(seed)
    shapes = {"smolvla": (6, 4), "pi0": (6, 4), "pi05": (6, 4), "diffusion": (8, 2)}
    noise = {}
    if config.type in shapes:
        noise = {"noise": standard_normal(shapes[config.type], seed)[None]}
    network.reset()
    with torch.inference_mode():
        if config.type in ("pi0", "pi05"):  # whose select_action takes no noise
            return np.asarray(post(network.predict_action_chunk(pre(observed), **noise))[0])
        steps = [post(network.select_action(pre(observed), **noise)) for _ in range(3)]
    return np.concatenate(steps)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_answers_as_lerobots_own_loop(
    kind: str, checkpoints: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    whole = fakes.config_for(
        data, checkpoints[kind], tmp_path / "a", episodes="2", max_frames=2, latency_calls=1
    )
    evaluate(whole)
    expected = lerobots_own(checkpoints[kind], data)
    np.testing.assert_allclose(
        stored(tmp_path / "a")[0, : len(expected)], expected, rtol=1e-4, atol=1e-3
    )


def of_type(policy: Path, kind: str) -> Path:
    file = policy / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "type": kind}))
    return policy


def test_every_other_kind_of_lerobots_is_refused(
    checkpoints: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    """One line instead of a number, before weights are read.

    gaussian_actor, groot, pi0_fast and wall_x are opened by lerobot with ``trust_remote_code``
    (encoder, backbone or FAST tokenizer): never. The others can't be built small: eo1, evo1,
    molmoact2 and vla_jepa take their backbones from the hub by name, fastwam and lingbot_va the
    video models of Wan. Their postprocessors are their own, so that a test would have to show
    that they bring actions back.
    """
    import lerobot.policies  # noqa: F401
    from lerobot.configs import PreTrainedConfig

    others = set(PreTrainedConfig.get_known_choices()) - set(KINDS)
    assert others >= set(RUN_CODE)
    for kind in sorted(others):
        policy = of_type(copied(checkpoints["act"], tmp_path / kind), kind)
        config = fakes.config_for(data, policy, tmp_path / "o", episodes="2", max_frames=2)
        if kind in RUN_CODE:
            with pytest.raises(CheckpointError, match=f"found {kind}, for which lerobot trusts"):
                evaluate(config)
        else:
            with pytest.raises(RefusedError, match=f"policy_type_untested.*found {kind}"):
                evaluate(config)


@pytest.mark.parametrize(
    "step",
    [
        {"registry_name": "action_tokenizer_processor"},
        {"class": "lerobot.processor.tokenizer_processor.ActionTokenizerProcessorStep"},
    ],
)
def test_a_tokenizer_that_would_run_code_is_refused(
    step: dict[str, str], checkpoints: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    policy = copied(checkpoints["pi0"], tmp_path / "p")
    file = policy / "policy_preprocessor.json"
    content = json.loads(file.read_text())
    content["steps"].append({**step, "config": {}})
    file.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="run no foreign code"):
        check(fakes.config_for(data, policy, tmp_path / "o"))


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_are_not_all_there_are_refused(
    kind: str, checkpoints: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    """lerobot's PI0 prints a warning and goes on with random weights."""
    policy = copied(checkpoints[kind], tmp_path / "p")
    weights = load_file(policy / "model.safetensors")
    lost = max(weights)
    save_file({k: v for k, v in weights.items() if k != lost}, policy / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"model\.safetensors|Error\(s\) in loading"):
        evaluate(fakes.config_for(data, policy, tmp_path / "o", episodes="2", max_frames=2))


@pytest.mark.parametrize(
    ("kind", "folder", "name"),
    [
        ("xvla", "bart", "facebook/bart-large"),
        ("pi05", "paligemma", "google/paligemma-3b-pt-224"),
        ("multi_task_dit", "clip", "openai/clip-vit-base-patch16"),
    ],
)
def test_models_that_only_the_hub_has_are_named(
    kind: str,
    folder: str,
    name: str,
    checkpoints: dict[str, Path],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A tokenizer or a backbone that the checkpoint names and doesn't bring along."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    policy = copied(checkpoints[kind], tmp_path / "p")
    shutil.rmtree(policy / folder)
    for file in policy.glob("*.json"):
        text = re.sub(rf'"[^"]*/{folder}"', f'"{name}"', file.read_text())
        file.write_text(text)
    with pytest.raises(CheckpointError, match=f"{name}.*within reach"):
        evaluate(fakes.config_for(data, policy, tmp_path / "o", episodes="2", max_frames=2))


def test_displacements_become_absolute_or_are_refused(data: Path, tmp_path: Path) -> None:
    """PI0's relative actions: with statistics of displacements, and with the step that adds."""
    stats = fakes.dataset_stats(data)
    stats["action"] = {**stats["action"], "mean": torch.zeros(2), "std": torch.ones(2)}
    policy = fakes.write_policy(tmp_path / "p", data, "pi0", stats=stats, use_relative_actions=True)
    config = {"episodes": "2", "max_frames": 4}
    evaluate(fakes.config_for(data, policy, tmp_path / "a", **config))
    expected = lerobots_own(policy, data)
    np.testing.assert_allclose(stored(tmp_path / "a")[0], expected, rtol=1e-4, atol=1e-3)
    assert codes(fakes.config_for(data, policy, tmp_path / "o")) == []
    with pytest.raises(RefusedError, match="relative_actions"):
        evaluate(fakes.config_for(data, policy, tmp_path / "b", stats="dataset", **config))
    file = policy / "policy_postprocessor.json"
    content = json.loads(file.read_text())
    content["steps"] = [s for s in content["steps"] if "absolute" not in s["registry_name"]]
    file.write_text(json.dumps(content))
    with pytest.raises(RefusedError, match=r"relative_actions: .*no such step"):
        evaluate(fakes.config_for(data, policy, tmp_path / "c", **config))


def as_before_lerobot_04(policy: Path) -> Path:
    """Move the statistics into the weights, under the names of lerobot's old buffers."""
    weights = load_file(policy / "model.safetensors")
    for which, layer in (("pre", "normalize_inputs"), ("post", "unnormalize_outputs")):
        (file,) = policy.glob(f"policy_{which}processor_step_*.safetensors")
        for key, values in load_file(file).items():
            feature, statistic = key.rsplit(".", 1)
            if (feature == "action") == (which == "post") and statistic in ("mean", "std"):
                weights[f"{layer}.buffer_{feature.replace('.', '_')}.{statistic}"] = values
    weights["normalize_targets.buffer_action.mean"] = torch.zeros(2)
    weights["normalize_targets.buffer_action.std"] = torch.ones(2)
    save_file(weights, policy / "model.safetensors")
    for file in policy.glob("policy_p*processor*"):
        file.unlink()
    return policy


@pytest.mark.parametrize("kind", ["act", "smolvla"])
def test_statistics_in_the_weights_are_recovered(
    kind: str, checkpoints: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    evaluate(fakes.config_for(data, checkpoints[kind], tmp_path / "a", episodes="2"))
    old = as_before_lerobot_04(copied(checkpoints[kind], tmp_path / "p"))
    record = evaluate(fakes.config_for(data, old, tmp_path / "b", episodes="2")).record
    np.testing.assert_allclose(stored(tmp_path / "b"), stored(tmp_path / "a"), rtol=1e-4, atol=1e-3)
    assert record["actions"]["normalization"]["source"] == "weights"
    assert "recovered" in subject(record)
    assert "stats_recovered" in [f["code"] for f in record["findings"]]


def test_buffers_that_were_never_filled_do_not_count(
    checkpoints: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    old = as_before_lerobot_04(copied(checkpoints["act"], tmp_path / "p"))
    weights = load_file(old / "model.safetensors")
    for name in ("mean", "std"):
        key = f"unnormalize_outputs.buffer_action.{name}"
        weights[key] = torch.full_like(weights[key], torch.inf)
    save_file(weights, old / "model.safetensors")
    assert "action_stats_missing" in codes(fakes.config_for(data, old, tmp_path / "o"))


def test_multi_dataset_statistics_name_their_choices(
    checkpoints: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    """As lerobot/smolvla_base has them: so100.buffer.action.mean, and none for the state."""
    policy = copied(checkpoints["smolvla"], tmp_path / "p")
    for file in policy.glob("policy_p*processor_step_*.safetensors"):
        tables = {
            f"{name}.buffer.action.{stat}": torch.ones(2)
            for name in ("so100", "so100-blue")
            for stat in ("mean", "std")
        }
        save_file(tables, file)
    found = {f.code: f for f in check(fakes.config_for(data, policy, tmp_path / "o")).findings}
    assert (
        "2 datasets it was trained on (so100, so100-blue)" in found["action_stats_missing"].message
    )
    assert found["input_stats_missing"].severity == "error"


def test_dataset_statistics_reach_a_checkpoint_that_renames_its_inputs(
    data: Path, tmp_path: Path
) -> None:
    """Its preprocessor renames first and normalizes then, under the policy's keys."""
    ours = "observation.images.top"
    policy = fakes.write_policy(tmp_path / "p", data, "act", cameras={ours: 64})
    file = policy / "policy_preprocessor.json"
    content = json.loads(file.read_text())
    for step in content["steps"]:
        if step["registry_name"] == "rename_observations_processor":
            step["config"]["rename_map"] = {fakes.IMAGE: ours}
    file.write_text(json.dumps(content))
    config = fakes.config_for(data, policy, tmp_path / "o", stats="dataset")
    opened = check(config).open_policy(config)
    (normalizer,) = (s for s in opened._pre.steps if hasattr(s, "norm_map"))
    assert set(normalizer.stats) == {fakes.STATE, ours, "action"}


def test_inputs_without_statistics_are_refused(
    checkpoints: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    policy = without_stats(copied(checkpoints["act"], tmp_path / "p"), (fakes.STATE,), "pre")
    found = check(fakes.config_for(data, policy, tmp_path / "o")).findings
    assert "observation.state.mean" in next(f.message for f in found if f.severity == "error")
    assert codes(fakes.config_for(data, policy, tmp_path / "o", stats="dataset")) == [
        "stats_from_dataset"
    ]


def _pre_stats(policy: Path, change: Any) -> Path:
    (file,) = policy.glob("policy_preprocessor_step_*.safetensors")
    stats = load_file(file)
    change(stats)
    save_file(stats, file)
    return policy


def _colours(stats: dict[str, torch.Tensor]) -> None:
    stats[f"{fakes.IMAGE}.mean"] = stats[f"{fakes.IMAGE}.mean"].flip(0)


def _bytes(stats: dict[str, torch.Tensor]) -> None:
    stats[f"{fakes.IMAGE}.mean"] = stats[f"{fakes.IMAGE}.mean"] * 255


def _state(stats: dict[str, torch.Tensor]) -> None:
    stats[f"{fakes.STATE}.std"] = stats[f"{fakes.STATE}.std"] * 57


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (_colours, "image_channels_reversed"),
        (_bytes, "image_range"),
        (_state, "state_stats_mismatch"),
    ],
)
def test_inputs_of_another_kind(
    change: Any, code: str, checkpoints: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    coloured = tmp_path / "d"
    shutil.copytree(data, coloured)
    file = coloured / "meta" / "stats.json"
    stats = json.loads(file.read_text())
    stats[fakes.IMAGE]["mean"] = [[[0.3]], [[0.4]], [[0.6]]]
    file.write_text(json.dumps(stats))
    policy = copied(checkpoints["act"], tmp_path / "p")
    _pre_stats(policy, lambda s: s.update({f"{fakes.IMAGE}.mean": torch.tensor([0.3, 0.4, 0.6])}))
    config = fakes.config_for(coloured, policy, tmp_path / "o")
    assert codes(config) == []
    _pre_stats(policy, change)
    assert codes(config) == [code]


def test_cameras_are_paired_by_their_names(tmp_path: Path) -> None:
    cameras = ("observation.images.wrist_left", "observation.images.front_cam")
    root = fakes.write_dataset(tmp_path / "d", cameras=cameras, lengths=(5, 6))
    ours = {"observation.images.front": 64, "observation.images.wrist": 64}
    policy = fakes.write_policy(tmp_path / "p", root, "smolvla", cameras=ours)
    (finding,) = check(fakes.config_for(root, policy, tmp_path / "o")).findings
    assert finding.code == "camera_missing"
    proposal = json.loads(finding.fix.removeprefix("--rename_map ").strip("'"))
    assert proposal == {
        "observation.images.front_cam": ["observation.images.front"],
        "observation.images.wrist_left": ["observation.images.wrist"],
    }


def test_empty_tasks_of_some_episodes(tmp_path: Path) -> None:
    root = fakes.write_dataset(tmp_path / "d", lengths=(5, 6, 7), tasks=("push", ""))
    policy = fakes.write_policy(tmp_path / "p", root, "smolvla")
    (finding,) = check(fakes.config_for(root, policy, tmp_path / "o")).findings
    assert finding.code == "task_text_missing"
    assert "1 of 3 episodes" in finding.message


def test_episodes_of_the_training_are_named(
    checkpoints: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    """lerobot's eval_split holds out the last half of each task's three episodes: two of three."""
    policy = copied(checkpoints["act"], tmp_path / "p")
    recorded = {"dataset": {"repo_id": "fake/data", "episodes": None, "eval_split": 0.5}}
    (policy / "train_config.json").write_text(json.dumps(recorded))
    inputs = check(fakes.config_for(data, policy, tmp_path / "o"))
    assert inputs.episodes == (2, 3, 4, 5)
    assert [f.code for f in inputs.findings] == []
    inputs = check(fakes.config_for(data, policy, tmp_path / "o", episodes="1:4"))
    (finding,) = inputs.findings
    assert finding.code == "in_sample"
    assert "1 of 3" in finding.message


def test_a_suspicion_of_severity_error_stands_beside_the_numbers() -> None:
    record = read_record(Path(__file__).with_name("data") / "run-0.1-offline")
    found = FindingRow(code="suspect_degrees", severity="error", message="", fix="")
    suspicious = record.model_copy(update={"findings": [found]})
    assert "SUSPECT_DEGREES" in str(forced_notice(suspicious))
    assert forced_notice(record.model_copy(update={"findings": []})) is None
