"""SmolVLA's faster sampling gives lerobot's own actions, or is not taken."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fakes
from policyscope.commands.check import check
from policyscope.config import EvalConfig
from policyscope.data.frames import FrameBatch
from policyscope.policies.lerobot import LerobotPolicy
from policyscope.policies.smolvla import Sampler, speed_up

CAMERAS = {f"observation.images.camera{i}": 64 for i in (1, 2, 3)}


def opened(config: EvalConfig, sampling: str = "auto") -> tuple[LerobotPolicy, FrameBatch]:
    config = replace(config, policy=replace(config.policy, sampling=sampling))
    inputs = check(config)
    policy = inputs.open_policy(config)
    assert isinstance(policy, LerobotPolicy)
    rows = [(e, f, 0) for e in (0, 1) for f in (0, 3, 7)]
    inputs.source.load((0, 1))
    return policy, inputs.source.batch(rows, keys=policy.spec.keys)


def config_of(data: Path, folder: Path, **settings: Any) -> EvalConfig:
    cameras = settings.pop("cameras", None)
    kind = settings.pop("kind", "smolvla")
    path = fakes.write_policy(folder / "p", data, kind, cameras=cameras, **settings)
    told = {"rename_map": json.dumps({fakes.IMAGE: list(cameras)})} if cameras else {}
    return fakes.config_for(data, path, folder / "out", **told)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_vlm_layers": 4, "num_steps": 10},
        {"self_attn_every_n_layers": 3, "num_vlm_layers": 4},
        {"self_attn_every_n_layers": -1},
        {"attention_mode": "self_attn"},
        {"add_image_special_tokens": True},
        {"prefix_length": 60},
        {"cameras": CAMERAS},
        {"cameras": CAMERAS, "empty_cameras": 1},
    ],
)
def test_the_same_actions_as_lerobots_own_code(
    data: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    config = config_of(data, tmp_path, **settings)
    fast, batch = opened(config)
    plain, _ = opened(config, "lerobot")
    assert (fast.spec.sampling, plain.spec.sampling) == ("faster", "lerobot")
    ours, theirs = (policy.predict(batch).actions.values for policy in (fast, plain))
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * theirs.std(), rtol=0)
    again = fast.predict(batch).actions.values
    np.testing.assert_array_equal(ours, again)


SAMPLES = [(0, 3, 2), (0, 3, 3), *((0, 7, k) for k in range(4)), (1, 0, 0), (1, 3, 0), (1, 3, 1)]


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("smolvla", {}),
        ("smolvla", {"self_attn_every_n_layers": 3, "num_vlm_layers": 4}),
        ("smolvla", {"cameras": CAMERAS, "empty_cameras": 1}),
        ("diffusion", {"noise_scheduler_type": "DDIM"}),
        ("pi0", {}),
        ("pi05", {}),
    ],
)
def test_what_samples_of_a_frame_share_is_computed_once(
    data: Path, tmp_path: Path, kind: str, settings: dict[str, Any]
) -> None:
    config = config_of(data, tmp_path, kind=kind, **settings)
    with fakes.small_pi():
        policy, _ = opened(config)
    source = check(config).source
    source.load((0, 1))
    batch = source.batch(SAMPLES, keys=policy.spec.keys)
    np.testing.assert_array_equal(batch.frames, [0, 0, 1, 1, 1, 1, 2, 3, 3])
    inner: Any = policy._policy
    seen: list[int] = []
    if kind != "diffusion":
        theirs = inner.model.embed_prefix

        def counted(images: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append(len(images[0]))
            return theirs(images, *args, **kwargs)

        inner.model.embed_prefix = counted
    else:
        for part in inner.diffusion.rgb_encoder.modules():
            if type(part).__name__ == "DiffusionRgbEncoder":
                part.register_forward_hook(
                    lambda _part, args, _out: seen.append(len(args[0]) // inner.config.n_obs_steps)
                )
    together = policy.predict(batch).actions.values
    assert seen == [4]
    alone = [policy.predict(batch[i : i + 1]).actions.values for i in range(len(batch))]
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-4 * together.std(), rtol=0)
    assert not np.allclose(together[0], together[1])
    frames = [policy.predict(batch[i : i + 1]).actions.values.shape for i in (0, 6)]
    assert frames == [together[:1].shape] * 2  # nothing of the sharing stays


@pytest.mark.parametrize("apart", [False, True])
def test_a_picture_that_several_frames_look_at_is_encoded_once(
    data: Path, tmp_path: Path, apart: bool
) -> None:
    cameras = dict.fromkeys(list(CAMERAS)[:2], 64)
    settings: dict[str, Any] = {"use_separate_rgb_encoder_per_camera": apart, "n_obs_steps": 2}
    config = config_of(
        data, tmp_path, kind="diffusion", cameras=cameras, noise_scheduler_type="DDIM", **settings
    )
    policy, _ = opened(config)
    source = check(config).source
    source.load((0, 1))
    rows = [(0, 0, 0), (0, 1, 0), (0, 2, 0), (1, 3, 0), (1, 4, 0), (1, 4, 1)]
    batch = source.batch(rows, keys=policy.spec.keys, steps=policy.spec.steps)
    encoded: list[int] = []
    for part in policy._policy.modules():
        if type(part).__name__ == "DiffusionRgbEncoder":
            part.backbone.register_forward_hook(lambda _, args, __: encoded.append(len(args[0])))
    together = policy.predict(batch).actions.values
    assert encoded == ([6, 6] if apart else [12])  # frames 0, 1, 2 and 2, 3, 4
    alone = [policy.predict(batch[i : i + 1]).actions.values for i in range(len(batch))]
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-4 * together.std(), rtol=0)
    # another picture in its place, as before an episode of a simulator that begins with black
    encoded.clear()
    black = {key: values.copy() for key, values in batch.observations[0].items()}
    black[fakes.IMAGE][0] = 0
    policy.predict(replace(batch, observations=(black, batch.observations[1])))
    assert encoded == ([10, 10] if apart else [20])


def test_a_picture_that_feeds_three_cameras_is_embedded_once(data: Path, tmp_path: Path) -> None:
    config = config_of(data, tmp_path, cameras=CAMERAS)
    seen = {}
    for sampling in ("auto", "lerobot"):
        policy, batch = opened(config, sampling)
        tower = policy._policy.model.vlm_with_expert.get_vlm_model().vision_model
        calls: list[int] = []
        tower.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        policy.predict(batch)
        seen[sampling] = len(calls)
    assert seen == {"auto": 1, "lerobot": 3}


def test_an_empty_camera_is_embedded_once_for_all_calls(data: Path, tmp_path: Path) -> None:
    """And a picture that feeds three cameras is resized once."""
    policy, batch = opened(config_of(data, tmp_path, cameras=CAMERAS, empty_cameras=2))
    inner: Any = policy._policy
    tower = inner.model.vlm_with_expert.get_vlm_model().vision_model
    rows: list[int] = []
    tower.register_forward_hook(lambda *known: rows.append(len(known[-1].last_hidden_state)))
    images, masks = inner.prepare_images(policy._observe(batch))
    assert [len(i) for i in images] == [6] * 5
    assert images[0] is images[1] is images[2]
    assert [bool(mask.all()) for mask in masks] == [True] * 3 + [False] * 2
    policy.predict(batch)
    assert rows == [6, 1]
    policy.predict(batch[:4])
    assert rows == [6, 1, 4]


def test_different_pictures_are_embedded_each(data: Path, tmp_path: Path) -> None:
    policy, batch = opened(config_of(data, tmp_path, cameras=CAMERAS))
    model = policy._policy.model
    tower = model.vlm_with_expert.get_vlm_model().vision_model
    calls: list[int] = []
    tower.register_forward_hook(lambda *_: calls.append(1))
    shown = dict(policy._observe(batch))
    key = list(CAMERAS)[1]
    shown[key] = shown[key] * 0.5
    noise = policy._noise(batch)
    with torch.inference_mode():
        ours = policy._policy.predict_action_chunk(dict(shown), noise=noise)
        assert sum(calls) == 2  # the first and the third are one picture
        plain, _ = opened(config_of(data, tmp_path / "again", cameras=CAMERAS), "lerobot")
        theirs = plain._policy.predict_action_chunk(dict(shown), noise=noise)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_mixed_weights_stay_as_near_to_float32_as_lerobots_own(data: Path, tmp_path: Path) -> None:
    """The public checkpoint's language model and action expert are bfloat16."""
    fast, batch = opened(config_of(data, tmp_path, num_vlm_layers=4, num_steps=10))
    noise = fast._noise(batch)
    policy, exact = fast._policy, fast.predict(batch)
    assert exact.actions.values.std() > 0
    shown = fast._observe(batch)
    with torch.inference_mode():
        want = policy.predict_action_chunk(dict(shown), noise=noise)
        policy.model.vlm_with_expert.to(torch.bfloat16)
        ours = policy.predict_action_chunk(dict(shown), noise=noise)
        theirs = policy.model.sample_actions._theirs
        policy.model.sample_actions = theirs
        lerobots = policy.predict_action_chunk(dict(shown), noise=noise)
    assert 0 < (ours - want).abs().mean() < 1.5 * (lerobots - want).abs().mean()


def test_half_precision_on_demand_moves_it_no_further(data: Path, tmp_path: Path) -> None:
    config = replace(config_of(data, tmp_path), dtype="bfloat16")
    fast, batch = opened(config)
    plain, _ = opened(config, "lerobot")
    want = fast.predict_plain(batch).actions.values
    ours, theirs = (policy.predict(batch).actions.values for policy in (fast, plain))
    assert 0 < np.abs(ours - want).mean() < 1.5 * np.abs(theirs - want).mean()


@pytest.mark.parametrize("asks", ["compile_model", "no cache", "guidance", "another code"])
def test_lerobots_own_code_samples_where_it_must(data: Path, tmp_path: Path, asks: str) -> None:
    policy, _ = opened(config_of(data, tmp_path), "lerobot")
    model = policy._policy.model
    own = model.sample_actions
    if asks == "compile_model":
        model.config.compile_model = True
    elif asks == "no cache":
        model.config.use_cache = False
    elif asks == "guidance":
        model.rtc_processor = object()
    else:
        model.sample_actions = lambda *args, **kwargs: 1.001 * own(*args, **kwargs)
    before = model.sample_actions
    assert speed_up(policy._policy) is None
    assert model.sample_actions == before
    assert "prepare_images" not in vars(policy._policy)


def test_guidance_that_comes_later_is_lerobots_matter(data: Path, tmp_path: Path) -> None:
    policy, _ = opened(config_of(data, tmp_path))
    model = policy._policy.model
    sampler = model.sample_actions
    assert isinstance(sampler, Sampler)
    asked: list[dict[str, Any]] = []
    sampler._theirs = lambda *_, **told: asked.append(told)
    sampler([], [], None, None, None, inference_delay=2)
    assert asked == [{"noise": None, "inference_delay": 2}]


def test_a_text_that_rows_share_is_made_tokens_once(data: Path, tmp_path: Path) -> None:
    policy, _ = opened(config_of(data, tmp_path))
    step = next(s for s in policy._pre.steps if hasattr(s, "_tokenize_text"))
    theirs, seen = step.input_tokenizer, []

    def counted(texts: Any, **told: Any) -> Any:
        seen.append(texts)
        return theirs(texts, **told)

    step.input_tokenizer = counted
    rows = ["push it\n", "lift the red block\n", "push it\n"]
    ours, want = step._tokenize_text(rows), type(step)._tokenize_text(step, rows)
    assert seen == [rows[:2], rows]
    assert ours.keys() == want.keys() >= {"input_ids", "attention_mask"}
    for name in want:
        torch.testing.assert_close(ours[name], want[name], rtol=0, atol=0)
    assert step._tokenize_text("push it\n").keys() == want.keys()
