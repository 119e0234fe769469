"""lerobot's policies through policyscope, against plain loops with lerobot's own pieces."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import fakes
from policyscope.actions.spaces import NormalizedActions
from policyscope.commands.check import check
from policyscope.commands.evaluate import evaluate
from policyscope.config import DatasetConfig
from policyscope.data.source import FrameSource
from policyscope.errors import PolicyscopeError, SpaceError
from policyscope.policies.noise import noise_seed, standard_normal
from policyscope.runs.directory import RunDirectory


def noise_by_the_book(seed: int, episode: int, frame: int, sample: int, shape) -> torch.Tensor:
    """The rule as the documentation states it, written again."""
    key = f"{seed}:{episode}:{frame}:{sample}"
    s = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little") % 2**63
    return torch.randn(shape, generator=torch.Generator().manual_seed(s))


def test_noise_rule() -> None:
    ours = standard_normal((4, 3), noise_seed(7, 185, 3, 1))
    assert torch.equal(ours, noise_by_the_book(7, 185, 3, 1, (4, 3)))
    others = [(8, 185, 3, 1), (7, 186, 3, 1), (7, 185, 4, 1), (7, 185, 3, 0)]
    assert all(noise_seed(*o) != noise_seed(7, 185, 3, 1) for o in others)


def plain_loop(policy_dir: Path, root: Path, episodes: list[int], kind: str) -> np.ndarray:
    """One frame at a time over LeRobotDataset items, with lerobot's own processors."""
    from lerobot.configs import PreTrainedConfig
    from lerobot.datasets import LeRobotDataset
    from lerobot.policies.factory import get_policy_class, make_pre_post_processors

    config = PreTrainedConfig.from_pretrained(policy_dir)
    policy = get_policy_class(kind).from_pretrained(policy_dir, config=config)
    pre, post = make_pre_post_processors(config, pretrained_path=str(policy_dir))
    data = LeRobotDataset("fake/data", root=root, episodes=episodes, video_backend="pyav")
    keys = [key for key in config.input_features if key in data[0]]
    chunks = []
    for i in range(len(data)):
        item = data[i]
        if item["frame_index"] == 0:
            policy.reset()
        extra = {}
        if kind != "act":
            shape = (
                (config.chunk_size, config.max_action_dim)
                if kind == "smolvla"
                else (config.horizon, config.action_feature.shape[0])
            )
            where = (int(item["episode_index"]), int(item["frame_index"]), 0)
            extra["noise"] = noise_by_the_book(0, *where, shape)[None]
        batch = pre({key: item[key] for key in keys} | {"task": item["task"]})
        if kind == "diffusion":  # the online road: observations queue up frame by frame
            policy._queues["action"].clear()
            first = policy.select_action({k: v for k, v in batch.items() if k != "action"}, **extra)
            chunk = torch.stack([first, *policy._queues["action"]], dim=1)
        else:
            chunk = policy.predict_action_chunk(dict(batch), **extra)
        chunks.append(post(chunk)[0].detach().numpy())
    return np.stack(chunks)


def stored(out: Path) -> np.ndarray:
    return np.concatenate([e.predicted[0].values for e in RunDirectory(out).stored()])


@pytest.mark.parametrize("kind", ["smolvla", "act", "diffusion"])
def test_agrees_with_a_plain_loop(
    kind: str, data: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    policy = request.getfixturevalue(kind)
    out = tmp_path / "out"
    run = evaluate(fakes.config_for(data, policy, out, episodes="1,3", batch_size="4"))
    expected = plain_loop(policy, data, [1, 3], kind)
    np.testing.assert_allclose(stored(out), expected, atol=1e-3)
    assert run.record["policy"]["type"] == kind
    assert run.record["policy"]["chunk_size"] == expected.shape[1]


@pytest.mark.parametrize("kind", ["smolvla", "diffusion"])
def test_batches_and_order_do_not_matter(
    kind: str, data: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    policy = request.getfixturevalue(kind)
    runs = {}
    for name, episodes, size in (
        ("one", "0:4", "1"),
        ("seven", "0:4", "7"),
        ("many", "3,1,0,2", "64"),
        ("part", "2", "5"),
    ):
        evaluate(
            fakes.config_for(data, policy, tmp_path / name, episodes=episodes, batch_size=size)
        )
        runs[name] = {
            e.index: e.predicted[0].values for e in RunDirectory(tmp_path / name).stored()
        }
    std = fakes.dataset_stats(data)["action"]["std"].numpy()
    for name in ("seven", "many"):
        for episode, values in runs["one"].items():
            assert (np.abs(values - runs[name][episode]) / std).max() < 1e-4
    assert (np.abs(runs["one"][2] - runs["part"][2]) / std).max() < 1e-4


def test_samples_differ_and_the_first_stays(data: Path, smolvla: Path, tmp_path: Path) -> None:
    evaluate(fakes.config_for(data, smolvla, tmp_path / "k1", episodes="0"))
    run = evaluate(fakes.config_for(data, smolvla, tmp_path / "k3", episodes="0", samples=3))
    (three,) = RunDirectory(tmp_path / "k3").stored()
    np.testing.assert_allclose(stored(tmp_path / "k1"), three.predicted[0].values, atol=1e-3)
    assert np.abs(three.predicted[0].values - three.predicted[1].values).max() > 1e-3
    assert run.record["samples"]["k"] == 3
    assert run.record["summary"]["chunk"]["mae"]["n_frames"] == 9


def test_ddpm_is_seeded_one_by_one(data: Path, tmp_path: Path) -> None:
    policy = fakes.write_policy(tmp_path / "ddpm", data, "diffusion", noise_scheduler_type="DDPM")
    for name, size in (("a", "1"), ("b", "8")):
        run = evaluate(
            fakes.config_for(data, policy, tmp_path / name, episodes="0", batch_size=size)
        )
    assert np.array_equal(stored(tmp_path / "a"), stored(tmp_path / "b"))
    assert "seeded_one_by_one" in [f["code"] for f in run.record["findings"]]


def test_one_camera_feeds_several_and_empty_ones_are_masked(data: Path, tmp_path: Path) -> None:
    cameras = {"observation.images.camera1": 64, "observation.images.camera2": 64}
    policy = fakes.write_policy(tmp_path / "p", data, "smolvla", cameras=cameras, empty_cameras=1)
    both = '{"observation.image": ["observation.images.camera1", "observation.images.camera2"]}'
    out = tmp_path / "out"
    config = fakes.config_for(data, policy, out, episodes="0", rename_map=both)
    inputs = check(config)
    feeds = {**dict.fromkeys(cameras, fakes.IMAGE), fakes.STATE: fakes.STATE}
    assert inputs.alignment.feeds == feeds
    assert evaluate(config).record["inputs"] == feeds
    opened = inputs.open_policy(config)
    observation = opened._observe(inputs.source.batch([(0, 0, 0)], keys=opened.spec.keys))
    images, masks = opened._policy.prepare_images(observation)
    assert [bool(mask.all()) for mask in masks] == [True, True, False]
    assert torch.equal(images[0], images[1])
    assert observation["observation.language.attention_mask"].dtype == torch.bool


def test_checkpoint_moved_elsewhere_finds_its_language_model(
    data: Path, smolvla: Path, tmp_path: Path
) -> None:
    """config.json names the folder it was written to, which exists no more."""
    moved = tmp_path / "moved" / "checkpoint"
    shutil.copytree(smolvla, moved)
    for name in ("config.json", "policy_preprocessor.json"):
        text = (moved / name).read_text()
        assert str(smolvla) in text
        (moved / name).write_text(text.replace(str(smolvla), "/nowhere/at/all"))
    evaluate(fakes.config_for(data, moved, tmp_path / "a", episodes="0"))
    evaluate(fakes.config_for(data, smolvla, tmp_path / "b", episodes="0"))
    assert np.array_equal(stored(tmp_path / "a"), stored(tmp_path / "b"))


def test_native_actions_only_through_their_own_statistics(data: Path, act: Path, tmp_path) -> None:
    config = fakes.config_for(data, act, tmp_path / "o", episodes="0")
    inputs = check(config)
    policy = inputs.open_policy(config)
    batch = inputs.source.batch([(0, 0, 0)], keys=policy.spec.keys)
    foreign = NormalizedActions(np.zeros((1, 6, 2)), "mean_std-of-another-dataset")
    with pytest.raises(SpaceError, match="statistics"):
        policy._to_native(foreign, batch)


def test_action_dims_pick_named_dims(tmp_path: Path) -> None:
    root = fakes.write_dataset(tmp_path / "d", dim=3, state_dim=2, names=["x", "y", "grip"])
    stats = fakes.dataset_stats(root)
    narrow = {
        k: v[:2] if v.ndim and v.numel() == 3 and k != "count" else v
        for k, v in stats["action"].items()
    }
    policy = fakes.write_policy(tmp_path / "p", root, "act", stats={**stats, "action": narrow})
    run = evaluate(fakes.config_for(root, policy, tmp_path / "o", action_dims="x,grip"))
    assert run.record["actions"]["names"] == ["x", "grip"]
    assert run.record["actions"]["dataset_dims"] == [0, 2]
    assert run.record["actions"]["policy_dims"] == [0, 1]
    stored_target = next(iter(RunDirectory(tmp_path / "o").stored())).target.values[:, 0]
    source = FrameSource(DatasetConfig(root=str(root)), repo_id="fake/data")
    source.load([0])
    assert np.array_equal(stored_target, source.episode(0).actions.values[:, [0, 2]])


def test_latency_kinds_are_never_mixed(data: Path, smolvla: Path, tmp_path: Path) -> None:
    config = fakes.config_for(data, smolvla, tmp_path / "o", episodes="0", latency_calls=30)
    latency = evaluate(config).record["latency"]
    assert latency["model_call"]["n"] == latency["end_to_end"]["n"] == 30
    assert latency["queue_pop"]["n"] == 30 * (3 - 1)  # n_action_steps - 1 pops a call
    assert latency["queue_pop"]["p50_ms"] < latency["model_call"]["min_ms"]
    assert latency["end_to_end"]["p50_ms"] >= latency["model_call"]["p50_ms"]
    assert latency["model_call"]["p90_ms"] is not None
    assert latency["model_call"]["p95_ms"] is None  # 30 calls support no p95


@pytest.mark.parametrize(("kind", "chunk"), [("act", 6), ("diffusion", 4)])
def test_executed_steps_are_the_users_choice(
    kind: str, chunk: int, data: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    policy = request.getfixturevalue(kind)
    config = fakes.config_for(
        data, policy, tmp_path / "o", episodes="0", n_action_steps=2, latency_calls=3
    )
    record = evaluate(config).record
    assert (record["policy"]["chunk_size"], record["policy"]["n_action_steps"]) == (chunk, 2)
    assert record["latency"]["queue_pop"]["n"] == 3
    with pytest.raises(PolicyscopeError, match=f"at most {chunk}"):
        evaluate(fakes.config_for(data, policy, tmp_path / "p", n_action_steps=chunk + 1))


def test_observations_of_the_future_are_for_training_alone(data: Path, tmp_path: Path) -> None:
    """TD-MPC declares the observations up to its horizon; its answer is of the current one."""
    from lerobot.datasets import LeRobotDataset
    from lerobot.policies.factory import get_policy_class, make_pre_post_processors

    settings = {"use_mpc": False, "n_action_steps": 1}
    made = fakes.write_policy(tmp_path / "tdmpc", data, "tdmpc", **settings)
    out = tmp_path / "out"
    run = evaluate(fakes.config_for(data, made, out, episodes="1", batch_size="4"))
    assert run.record["policy"]["chunk_size"] == 1
    policy = get_policy_class("tdmpc").from_pretrained(made)
    pre, post = make_pre_post_processors(policy.config, pretrained_path=str(made))
    items = LeRobotDataset("fake/data", root=data, episodes=[1], video_backend="pyav")
    expected = []
    for item in items:
        policy.reset()
        seen = {key: item[key] for key in policy.config.input_features}
        expected.append(post(policy.select_action(pre(seen))).detach().numpy())
    np.testing.assert_allclose(stored(out), np.stack(expected), atol=1e-4)
    assert np.abs(np.diff(np.stack(expected), axis=0)).min() > 1e-3  # frames do differ
