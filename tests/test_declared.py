"""What a checkpoint declares against what runs: lerobot's own classes are the oracle."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import fakes
from policyscope.checks.inputs import read_offline
from policyscope.commands.evaluate import evaluate
from policyscope.config import PolicyConfig
from policyscope.errors import CheckpointError, PolicyscopeError, RefusedError, UsageError
from policyscope.policies.kinds import VOUCHED, kind_of
from policyscope.policies.noise import noise_seed, standard_normal
from policyscope.policies.reading import read_checkpoint
from policyscope.policies.training import read_training
from policyscope.runs.directory import RunDirectory

PRE, POST = "policy_preprocessor.json", "policy_postprocessor.json"


@pytest.fixture(scope="module", autouse=True)
def small_pi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    tokenizer = tmp_path_factory.mktemp("hub") / "paligemma"
    fakes.write_tokenizer(tokenizer)
    with fakes.small_pi(tokenizer):
        yield


@pytest.fixture(scope="module")
def made(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A fresh copy of a checkpoint; each kind with its settings is written once."""
    folder = tmp_path_factory.mktemp("declared")
    known: dict[str, Path] = {}

    def make(kind: str, **settings: Any) -> Path:
        name = json.dumps([kind, settings])
        if name not in known:
            known[name] = fakes.write_policy(folder / f"p{len(known)}", data, kind, **settings)
        copy = folder / f"c{len(list(folder.iterdir()))}"
        shutil.copytree(known[name], copy)
        return copy

    return make


def edit(policy: Path, name: str, change: Callable[[dict[str, Any]], Any]) -> Path:
    content = json.loads((policy / name).read_text())
    change(content)
    (policy / name).write_text(json.dumps(content))
    return policy


def config(policy: Path, **values: Any) -> Path:
    return edit(policy, "config.json", lambda c: c.update(values))


def modes_of_steps(policy: Path, name: str, **modes: str) -> Path:
    def change(content: dict[str, Any]) -> None:
        for step in content["steps"]:
            if "norm_map" in step["config"]:
                step["config"]["norm_map"].update(modes)

    return edit(policy, name, change)


def without(policy: Path, feature: str, which: str = "p*") -> Path:
    for file in policy.glob(f"policy_{which}processor_step_*.safetensors"):
        kept = {k: v for k, v in load_file(file).items() if not k.startswith(f"{feature}.")}
        save_file(kept, file)
    return policy


def codes(data: Path, policy: Path, **settings: Any) -> dict[str, str]:
    config = fakes.config_for(data, policy, policy / "o", **settings)
    return {f.code: f.severity for f in read_offline(config).findings}


def run(data: Path, policy: Path, out: Path, **settings: Any) -> tuple[dict[str, Any], np.ndarray]:
    """The record, and the predicted chunks of sample 0: [frames, H, A]."""
    settings = {"episodes": "2", "max_frames": 5, **settings}
    record = evaluate(fakes.config_for(data, policy, out, **settings)).record
    return record, np.concatenate([e.predicted[0].values for e in RunDirectory(out).stored()])


# ── what lerobot's classes say ────────────────────────────────────────


def test_a_row_for_each_type_agrees_with_lerobots_class() -> None:
    from lerobot.configs import PreTrainedConfig
    from lerobot.policies import factory  # noqa: F401  (registers the types)

    for name in VOUCHED:
        fields = PreTrainedConfig.get_choice_class(name).__dataclass_fields__
        theirs = fields["normalization_mapping"].default_factory()
        assert {k: v.value for k, v in theirs.items()} == dict(kind_of(name).modes), name
        assert set(kind_of(name).models) <= set(fields)


def test_steps_that_are_taken_are_lerobots() -> None:
    """A name of the list that lerobot no longer has would be a door that nobody guards."""
    import lerobot.policies  # noqa: F401
    from lerobot.processor import ProcessorStep
    from lerobot.processor.pipeline import ProcessorStepRegistry

    from policyscope.policies.steps import _COMPUTE

    known = ProcessorStepRegistry.list()
    taken = [name for name in known if _COMPUTE.fullmatch(name)]
    assert len(taken) > 25
    assert all(issubclass(ProcessorStepRegistry.get(name), ProcessorStep) for name in taken)
    refused = {"action_tokenizer_processor", "reward_classifier_processor", "eo1_qwen_processor"}
    assert refused <= set(known) - set(taken)


# ── the length of a chunk ─────────────────────────────────────────────


@pytest.mark.parametrize(
    ("kind", "n_obs", "horizon", "steps", "length"),
    [
        ("diffusion", 2, 8, 8, 7),  # a published setting
        ("diffusion", 1, 8, 8, 8),
        ("diffusion", 3, 8, 4, 4),
        ("diffusion", 3, 8, 7, 6),
        ("multi_task_dit", 2, 8, 8, 7),
    ],
)
def test_diffusion_returns_what_its_horizon_leaves(
    kind: str,
    n_obs: int,
    horizon: int,
    steps: int,
    length: int,
    data: Path,
    made: Callable[..., Path],
    tmp_path: Path,
) -> None:
    policy = made(kind, n_obs_steps=n_obs, horizon=horizon, n_action_steps=steps)
    record, chunks = run(data, policy, tmp_path / "a", latency_calls=1)
    assert chunks.shape[1] == record["policy"]["chunk_size"] == length
    assert record["policy"]["n_action_steps"] == length
    if kind == "diffusion":
        np.testing.assert_allclose(chunks[0], of_lerobots_queue(policy, data), atol=1e-3)
    with pytest.raises(PolicyscopeError, match=f"at most {length}"):
        run(data, policy, tmp_path / "b", n_action_steps=length + 1)


def of_lerobots_queue(policy: Path, data: Path) -> np.ndarray:
    """All actions that lerobot's own select_action makes of the first frame of episode 2."""
    from lerobot.configs import PreTrainedConfig
    from lerobot.datasets import LeRobotDataset
    from lerobot.policies.factory import get_policy_class, make_pre_post_processors

    settings: Any = PreTrainedConfig.from_pretrained(policy)
    network: Any = get_policy_class(settings.type).from_pretrained(policy, config=settings).eval()
    pre, post = make_pre_post_processors(settings, pretrained_path=str(policy))
    frame = LeRobotDataset("fake/data", root=data, episodes=[2])[0]
    observed = {k: v for k, v in frame.items() if k.startswith("observation") or k == "task"}
    noise = {}
    if settings.type == "diffusion":
        noise = {"noise": standard_normal((settings.horizon, 2), noise_seed(0, 2, 0, 0))[None]}
    network.reset()
    with torch.inference_mode():
        first = network.select_action(pre(observed), **noise)
    actions = torch.stack([first, *network._queues["action"]], dim=1)
    return np.asarray(post(actions)[0])


# ── modes of normalization ────────────────────────────────────────────


@pytest.mark.parametrize("declared", ["absent", "IDENTITY", "as saved"])
def test_the_steps_say_how_actions_are_normalized(
    declared: str, data: Path, made: Callable[..., Path], tmp_path: Path
) -> None:
    expected = run(data, made("act"), tmp_path / "whole")[1]
    policy = made("act")
    if declared == "absent":
        edit(policy, "config.json", lambda c: c.pop("normalization_mapping"))
    elif declared == "IDENTITY":
        config(
            policy, normalization_mapping=dict.fromkeys(("VISUAL", "STATE", "ACTION"), "IDENTITY")
        )
    record, chunks = run(data, policy, tmp_path / "a")
    np.testing.assert_array_equal(chunks, expected)
    normalization = record["actions"]["normalization"]
    assert (normalization["mode"], normalization["source"]) == ("MEAN_STD", "checkpoint")
    found = codes(data, policy)
    assert found == ({"normalization_mode_overruled": "warning"} if declared == "IDENTITY" else {})
    for feature, code in (("action", "action_stats_missing"), (fakes.STATE, "input_stats_missing")):
        bare = tmp_path / feature
        shutil.copytree(policy, bare)
        without(bare, feature)
        with pytest.raises(RefusedError, match=code):
            run(data, bare, tmp_path / f"o-{feature}")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p: modes_of_steps(p, POST, ACTION="MIN_MAX"), "ACTION MEAN_STD in policy_pre"),
        (lambda p: modes_of_steps(p, POST, ACTION="IDENTITY"), "IDENTITY in policy_post"),
        (lambda p: [modes_of_steps(p, n, ACTION="MIN_MAX") for n in (PRE, POST)], "ACTION MEAN_S"),
        (lambda p: modes_of_steps(p, PRE, STATE="IDENTITY"), "STATE MEAN_STD in config.json"),
        (lambda p: modes_of_steps(p, PRE, STATE="QUANTILES"), "STATE MEAN_STD in config.json"),
    ],
    ids=["post differs", "post is raw", "both differ", "state raw", "state differs"],
)
def test_a_contradiction_is_refused(
    change: Callable[[Path], Any],
    said: str,
    data: Path,
    made: Callable[..., Path],
    tmp_path: Path,
) -> None:
    policy = made("act")
    change(policy)
    with pytest.raises(RefusedError, match=f"normalization_mode_mismatch.*{said}"):
        run(data, policy, tmp_path / "a")


def test_processors_made_anew_must_not_contradict_the_rest(
    data: Path, made: Callable[..., Path], tmp_path: Path
) -> None:
    """--stats dataset makes both anew after config.json, which says IDENTITY; the step knew."""
    policy = config(made("act"), normalization_mapping={"STATE": "IDENTITY", "ACTION": "IDENTITY"})
    (policy / POST).unlink()
    with pytest.raises(RefusedError, match="normalization_mode_mismatch"):
        run(data, policy, tmp_path / "a", stats="dataset")


@pytest.mark.parametrize(
    "mapping",
    [
        None,
        {"ACTION": "mean_std"},
        {"ACTION": "MAX_ABS"},
        {"action": "MEAN_STD"},
        {"ACTION": None},
        {"ACTION": ["MEAN_STD"]},
        "MEAN_STD",
        [],
    ],
    ids=str,
)
@pytest.mark.parametrize("where", ["config.json", PRE])
def test_what_is_no_mode_is_one_line(where: str, mapping: Any, made: Callable[..., Path]) -> None:
    policy = made("act")
    if where == "config.json":
        config(policy, normalization_mapping=mapping)
    else:
        edit(policy, PRE, lambda c: c["steps"][3]["config"].update(norm_map=mapping))
    with pytest.raises(CheckpointError, match=r"(normalization_mapping|norm_map).*expected.*found"):
        read_checkpoint(PolicyConfig(path=str(policy)))


# ── what config.json asks for in vain ─────────────────────────────────


@pytest.mark.parametrize("kind", ["smolvla", "pi0", "pi05"])
def test_real_time_chunking_is_off_and_said(
    kind: str, data: Path, made: Callable[..., Path], tmp_path: Path
) -> None:
    expected = run(data, made(kind), tmp_path / "plain")[1]
    policy = config(made(kind), rtc_config={"enabled": True, "execution_horizon": 4})
    record, chunks = run(data, policy, tmp_path / "a", latency_calls=2)
    np.testing.assert_array_equal(chunks, expected)
    assert record["latency"]["model_call"]["n"] == 2
    assert "rtc_off" in [f["code"] for f in record["findings"]]
    assert "rtc_off" not in codes(data, config(policy, rtc_config={"enabled": False}))


@pytest.mark.parametrize("kind", ["smolvla", "pi0", "diffusion"])
def test_compilation_is_the_runs_own_choice(
    kind: str,
    data: Path,
    made: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = run(data, made(kind), tmp_path / "plain")[1]
    compiled: list[Any] = []
    monkeypatch.setattr(torch, "compile", lambda f, **_: compiled.append(f) or f)
    policy = config(made(kind), compile_model=True)
    record, chunks = run(data, policy, tmp_path / "a")
    assert compiled == []
    np.testing.assert_array_equal(chunks, expected)
    assert record["policy"]["compiled"] is False
    assert "compile_off" in [f["code"] for f in record["findings"]]
    record, _ = run(data, policy, tmp_path / "b", compile=True)
    assert compiled
    assert record["policy"]["compiled"] is True
    assert "compile_off" not in [f["code"] for f in record["findings"]]


@pytest.mark.parametrize("kind", ["act", "diffusion", "vqbet"])
def test_imagenet_weights_are_not_fetched_where_the_file_holds_them(
    kind: str,
    data: Path,
    made: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise URLError("no network")

    expected = run(data, made(kind), tmp_path / "plain")[1]
    models = importlib.import_module("torchvision.models._api")
    monkeypatch.setattr(models, "load_state_dict_from_url", unreachable)
    policy = config(made(kind), pretrained_backbone_weights="ResNet18_Weights.IMAGENET1K_V1")
    np.testing.assert_array_equal(run(data, policy, tmp_path / "a")[1], expected)
    weights = load_file(policy / "model.safetensors")
    lost = next(key for key in weights if "backbone" in key and key.endswith("weight"))
    save_file({k: v for k, v in weights.items() if k != lost}, policy / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"weights for every part|Error\(s\) in loading"):
        run(data, policy, tmp_path / "b")


def test_where_it_was_trained_is_not_opened(data: Path, made: Callable[..., Path]) -> None:
    from policyscope.policies.opening import policy_config

    policy = config(made("act"), pretrained_path="/somewhere/else", repo_id="someone/x")
    checkpoint = read_checkpoint(PolicyConfig(path=str(policy)))
    assert policy_config(checkpoint, "cpu").pretrained_path is None
    assert codes(data, policy) == {}


def test_opening_leaves_no_file_behind(
    data: Path, made: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """lerobot's own road leaves a copy of config.json in the temporary folder each time."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    run(data, made("act"), tmp_path / "a")
    run(data, sharded(made("act"), 2), tmp_path / "b")
    assert list(temporary.iterdir()) == []


# ── cameras ───────────────────────────────────────────────────────────

THREE = {f"observation.images.camera{i}": 64 for i in (1, 2, 3)}
TWO = ("observation.images.front", "observation.images.wrist")


@pytest.fixture(scope="module")
def two_cameras(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("cameras") / "d"
    return fakes.write_dataset(where, cameras=TWO, lengths=(5, 6, 7), tasks=("push",))


def renaming(policy: Path, renames: dict[str, str]) -> Path:
    def change(content: dict[str, Any]) -> None:
        (step,) = (s for s in content["steps"] if s["registry_name"].startswith("rename"))
        step["config"]["rename_map"] = renames

    return edit(policy, PRE, change)


@pytest.mark.parametrize("kind", ["smolvla", "pi0", "pi05", "xvla"])
def test_cameras_beyond_the_data_as_lerobot_has_them(
    kind: str, two_cameras: Path, tmp_path: Path
) -> None:
    """Three declared, two renamed by the saved step: SmolVLA drops the third, others mask it."""
    views = {"num_image_views": 3, "max_len_seq": 512} if kind == "xvla" else {}
    policy = fakes.write_policy(tmp_path / "p", two_cameras, kind, cameras=THREE, **views)
    renaming(policy, dict(zip(TWO, THREE, strict=False)))
    assert codes(two_cameras, policy) == {"camera_unfed": "warning"}
    _, chunks = run(two_cameras, policy, tmp_path / "a")
    np.testing.assert_allclose(chunks[0], lerobots_chunk(policy, two_cameras), atol=1e-3)


def lerobots_chunk(policy: Path, data: Path) -> np.ndarray:
    from lerobot.configs import PreTrainedConfig
    from lerobot.datasets import LeRobotDataset
    from lerobot.policies.factory import get_policy_class, make_pre_post_processors

    settings: Any = PreTrainedConfig.from_pretrained(policy)
    network: Any = get_policy_class(settings.type).from_pretrained(policy, config=settings).eval()
    pre, post = make_pre_post_processors(settings, pretrained_path=str(policy))
    frame = LeRobotDataset("fake/data", root=data, episodes=[2])[0]
    observed = {k: v for k, v in frame.items() if k.startswith("observation") or k == "task"}
    seed = noise_seed(0, 2, 0, 0)
    torch.manual_seed(seed)
    noise = {}
    if settings.type != "xvla":
        noise = {"noise": standard_normal((6, settings.max_action_dim), seed)[None]}
    with torch.inference_mode():
        return np.asarray(post(network.predict_action_chunk(pre(observed), **noise))[0])


def test_a_source_in_use_is_never_proposed(two_cameras: Path, tmp_path: Path) -> None:
    policy = fakes.write_policy(tmp_path / "act", two_cameras, "act", cameras=THREE)
    found = {f.code: f for f in read(two_cameras, policy).findings}
    proposal = json.loads(found["camera_missing"].fix.removeprefix("--rename_map ").strip("'"))
    assert sorted(proposal) == sorted(TWO)
    assert all(len(cameras) == 1 for cameras in proposal.values())
    renaming(policy, dict(zip(TWO, THREE, strict=False)))
    found = {f.code: f for f in read(two_cameras, policy).findings}
    assert found["camera_missing"].severity == "error"  # ACT has no picture to put in its place
    assert "rename_map" not in found["camera_missing"].fix
    renaming(policy, {TWO[0]: "observation.images.camera1"})
    found = {f.code: f for f in read(two_cameras, policy).findings}
    proposal = json.loads(found["camera_missing"].fix.removeprefix("--rename_map ").strip("'"))
    assert list(proposal) == [TWO[1]]


def test_a_free_camera_is_not_passed_over(two_cameras: Path, tmp_path: Path) -> None:
    """SmolVLA would run with one camera, where the data has another that nobody named."""
    policy = fakes.write_policy(tmp_path / "p", two_cameras, "smolvla", cameras=THREE)
    renaming(policy, {TWO[0]: "observation.images.camera1"})
    found = {f.code: f for f in read(two_cameras, policy).findings}
    assert found["camera_missing"].severity == "error"
    assert TWO[1] in found["camera_missing"].fix
    named = json.dumps({TWO[1]: ["observation.images.camera3"]})
    assert codes(two_cameras, policy, rename_map=named) == {"camera_unfed": "warning"}


def read(data: Path, policy: Path) -> Any:
    return read_offline(fakes.config_for(data, policy, policy / "o"))


# ── ACT's temporal ensembling ─────────────────────────────────────────


@pytest.mark.parametrize("coefficient", [0.01, 0.0, -0.2])
def test_executed_is_what_lerobots_select_action_runs(
    coefficient: float, data: Path, made: Callable[..., Path], tmp_path: Path
) -> None:
    from lerobot.configs import PreTrainedConfig
    from lerobot.datasets import LeRobotDataset
    from lerobot.policies.factory import get_policy_class, make_pre_post_processors

    policy = made("act", n_action_steps=1, temporal_ensemble_coeff=coefficient, seed=3)
    record, _ = run(data, policy, tmp_path / "a", episodes="1,4", max_frames=None)
    settings: Any = PreTrainedConfig.from_pretrained(policy)
    network: Any = get_policy_class("act").from_pretrained(policy, config=settings).eval()
    pre, post = make_pre_post_processors(settings, pretrained_path=str(policy))
    errors = []
    for episode in (1, 4):
        network.reset()
        for frame in LeRobotDataset("fake/data", root=data, episodes=[episode]):
            seen = {k: v for k, v in frame.items() if k.startswith("observation") or k == "task"}
            with torch.inference_mode():
                action = post(network.select_action(pre(seen)))
            errors.append(np.abs(np.asarray(action[0]) - frame["action"].numpy()))
    mae = record["summary"]["executed"]["mae"]
    assert mae["value"] == pytest.approx(np.mean(errors), rel=1e-4)
    assert mae["n_frames"] == len(errors)
    assert abs(mae["value"] - record["summary"]["step1"]["mae"]["value"]) > 1e-3
    assert record["policy"]["ensembling"] == coefficient
    assert "temporal_ensembling" in [f["code"] for f in record["findings"]]
    rows = [r for r in record["by_dim"] if r["scope"] == "executed"]
    for row in rows:
        assert row["mae"] == pytest.approx(np.mean(errors, axis=0)[row["dim"]], rel=1e-4)


def test_an_ensemble_runs_one_step_of_every_frame(
    data: Path, made: Callable[..., Path], tmp_path: Path
) -> None:
    policy = made("act", n_action_steps=1, temporal_ensemble_coeff=0.01)
    with pytest.raises(RefusedError, match="ensembling_runs_one_step"):
        run(data, policy, tmp_path / "a", n_action_steps=3)
    with pytest.raises(UsageError, match="--stride"):
        run(data, policy, tmp_path / "b", stride=2)
    run(data, policy, tmp_path / "c", n_action_steps=1)


def test_an_ensemble_step_by_step_is_lerobots() -> None:
    from lerobot.policies.act.modeling_act import ACTTemporalEnsembler

    from policyscope.metrics.ensembling import Ensemble

    chunks = np.random.default_rng(0).normal(size=(9, 4, 2))
    theirs, ours = ACTTemporalEnsembler(0.3, 4), Ensemble(0.3, 4)
    for chunk in chunks:
        expected = theirs.update(torch.from_numpy(chunk)[None])[0]
        np.testing.assert_allclose(ours.act(chunk), expected, atol=1e-6)


# ── shapes of folders ─────────────────────────────────────────────────


def sharded(policy: Path, n: int) -> Path:
    weights = load_file(policy / "model.safetensors")
    (policy / "model.safetensors").unlink()
    placed = {}
    for i in range(n):
        name = f"model-{i + 1:05d}-of-{n:05d}.safetensors"
        part = dict(list(weights.items())[i::n])
        save_file(part, policy / name)
        placed |= dict.fromkeys(part, name)
    index = {"metadata": {"total_size": 1}, "weight_map": placed}
    (policy / "model.safetensors.index.json").write_text(json.dumps(index))
    return policy


@pytest.mark.parametrize(("kind", "n"), [("act", 3), ("smolvla", 2), ("pi0", 2), ("act", 1)])
def test_shards_are_one_network(
    kind: str, n: int, data: Path, made: Callable[..., Path], tmp_path: Path
) -> None:
    record, expected = run(data, made(kind), tmp_path / "whole")
    policy = sharded(made(kind), n)
    ours, chunks = run(data, policy, tmp_path / "a")
    np.testing.assert_array_equal(chunks, expected)
    assert ours["policy"]["n_parameters"] == record["policy"]["n_parameters"]
    assert ours["policy"]["sha256"]
    next(iter(policy.glob("model-*.safetensors"))).unlink()
    with pytest.raises(CheckpointError, match="no such file"):
        run(data, policy, tmp_path / "b")


def test_an_index_that_is_none(made: Callable[..., Path]) -> None:
    policy = made("act")
    (policy / "model.safetensors").unlink()
    for index in ({}, {"weight_map": {}}, {"weight_map": []}, {"weight_map": {"a": 1}}, []):
        (policy / "model.safetensors.index.json").write_text(json.dumps(index))
        with pytest.raises(CheckpointError, match=r"weight_map|a JSON object"):
            read_checkpoint(PolicyConfig(path=str(policy)))


def test_an_adapter_without_its_policys_config_says_what_it_is(made: Callable[..., Path]) -> None:
    policy = made("act")
    shutil.move(policy / "model.safetensors", policy / "adapter_model.safetensors")
    (policy / "config.json").unlink()
    (policy / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    with pytest.raises(CheckpointError, match=r"LoRA.*copy config\.json"):
        read_checkpoint(PolicyConfig(path=str(policy)))


@pytest.mark.parametrize(
    ("trained", "kept", "said"),
    [
        ({"policy": {"type": "act"}}, None, 'add "type": "act" to config.json'),
        (None, None, "add the policy type"),
        ({"policy": "act"}, None, "add the policy type"),
        ({}, {"model_type": "llama", "architectures": ["x"]}, "transformers model"),
        ({}, {}, "config.json"),
    ],
    ids=["in train_config", "nowhere", "a text", "transformers", "empty"],
)
def test_a_config_without_a_type(
    trained: Any, kept: Any, said: str, made: Callable[..., Path]
) -> None:
    policy = made("act")
    edit(policy, "config.json", lambda c: c.pop("type"))
    if kept is not None:
        (policy / "config.json").write_text(json.dumps(kept))
    if trained is not None:
        (policy / "train_config.json").write_text(json.dumps(trained))
    with pytest.raises(CheckpointError, match=said):
        read_checkpoint(PolicyConfig(path=str(policy)))


# ── train_config.json ─────────────────────────────────────────────────

ALL, UNKNOWN = (0, 1, 2, 3, 4, 5), None


@pytest.mark.parametrize(
    ("trained", "seen"),
    [
        ({"dataset": {"repo_id": "fake/data"}}, ALL),
        ({"dataset": {"repo_id": "fake/data", "episodes": [0, 1]}}, (0, 1)),
        ({"dataset": [{"repo_id": "other"}, {"repo_id": "fake/data", "episodes": [3]}]}, (3,)),
        ({"dataset": ["other", "fake/data"]}, ALL),
        ({"dataset": "fake/data"}, ALL),
        ({"dataset": {"repo_id": ["other", "fake/data"]}}, ALL),
        ({"dataset": {"repo_id": ["other", "fake/data"], "episodes": [1]}}, UNKNOWN),
        ({"dataset": {"repo_id": "fake/data", "episodes": {"train": [0]}}}, UNKNOWN),
        ({"dataset": {"repo_id": "fake/data", "episodes": "0:3"}}, UNKNOWN),
        ({"dataset": {"repo_id": "fake/data", "episodes": [0.5]}}, UNKNOWN),
        ({"dataset": {"repo_id": "fake/data", "eval_split": "a tenth"}}, UNKNOWN),
        ({"dataset": {"repo_id": "fake/data", "eval_split": 7}}, UNKNOWN),
        ({"dataset": [{"repo_id": "fake/data", "episodes": [0]}] * 2}, UNKNOWN),
        ({"dataset": {"repo_id": {"a": 1}}}, UNKNOWN),
        ({"dataset": 3, "env": "pusht"}, UNKNOWN),
        ({"dataset": None, "env": {"fps": "ten"}}, UNKNOWN),
        ({"dataset": {"repo_id": "fake/data", "fps": -1}, "env": [1]}, ALL),
        ([1, 2], UNKNOWN),
        ("text", UNKNOWN),
        (None, UNKNOWN),
    ],
    ids=lambda v: json.dumps(v)[:60],
)
def test_trainings_of_forks(trained: Any, seen: Any, data: Path, made: Callable[..., Path]) -> None:
    policy = made("act")
    (policy / "train_config.json").write_text(json.dumps(trained))
    inputs = read(data, policy)
    assert inputs.trained == (None if seen is None else frozenset(seen))
    assert not [f for f in inputs.findings if f.severity == "error"]


@pytest.mark.parametrize("fps", [True, "10", -1, 0, float("nan"), float("inf"), 1e9, None, [10]])
def test_a_rate_that_is_none(fps: Any) -> None:
    assert read_training({"dataset": {"repo_id": "x", "fps": fps}}).fps is None
    assert read_training({"env": {"fps": fps}}).fps is None


# ── plugins ───────────────────────────────────────────────────────────

PLUGIN = {
    "__init__.py": "from .configuration_tiny import TinyConfig\n",
    "configuration_tiny.py": """
        from dataclasses import dataclass
        from lerobot.configs import PreTrainedConfig
        from lerobot.policies.act.configuration_act import ACTConfig

        @PreTrainedConfig.register_subclass("tiny_plugin")
        @dataclass
        class TinyConfig(ACTConfig):
            pass
        """,
    "modeling_tiny.py": """
        from lerobot.policies.act.modeling_act import ACTPolicy
        from .configuration_tiny import TinyConfig

        class TinyPolicy(ACTPolicy):
            config_class, name = TinyConfig, "tiny_plugin"
        """,
}


def test_an_installed_plugin_is_registered_and_opened(
    data: Path, made: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from policyscope.policies import steps

    expected = run(data, made("act"), tmp_path / "act")[1]
    policy = config(made("act"), type="tiny_plugin")
    with pytest.raises(CheckpointError, match=r"installed plugin.*found tiny_plugin"):
        run(data, policy, tmp_path / "a", force=True)
    site = tmp_path / "site"
    for name, text in PLUGIN.items():
        file = site / "lerobot_policy_tiny" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text))
    about = site / "lerobot_policy_tiny-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: lerobot_policy_tiny\nVersion: 1\n"
    )
    monkeypatch.syspath_prepend(str(site))
    steps.plugins.cache_clear()
    try:
        assert steps.plugins() == ("lerobot_policy_tiny",)
        with pytest.raises(RefusedError, match="policy_type_untested"):
            run(data, policy, tmp_path / "b")
        record, chunks = run(data, policy, tmp_path / "c", force=True)
        np.testing.assert_allclose(chunks, expected, rtol=1e-5)  # asked one by one
        assert record["policy"]["type"] == "tiny_plugin"
    finally:
        steps.plugins.cache_clear()
        for name in [m for m in sys.modules if m.startswith("lerobot_policy_tiny")]:
            del sys.modules[name]
