"""Small real things: datasets written by lerobot, checkpoints of lerobot's own classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from policyscope.config import DatasetConfig, EvalConfig, PolicyConfig

IMAGE = "observation.image"
STATE = "observation.state"


def write_dataset(
    root: Path,
    *,
    lengths: tuple[int, ...] = (9, 12, 7, 10, 8, 11),
    dim: int = 2,
    state_dim: int | None = None,
    names: Any = None,
    cameras: tuple[str, ...] = (IMAGE,),
    size: int = 64,
    fps: int = 10,
    tasks: tuple[str, ...] = ("push the block",),
    video: bool = False,
    robot_type: str | None = None,
) -> Path:
    """A LeRobot v3.0 dataset of smooth random motions, in lerobot's own hand."""
    from lerobot.datasets import LeRobotDataset

    state_dim = dim if state_dim is None else state_dim
    features: dict[str, Any] = {
        STATE: {"dtype": "float32", "shape": (state_dim,), "names": None},
        "action": {"dtype": "float32", "shape": (dim,), "names": names},
    }
    for camera in cameras:
        features[camera] = {
            "dtype": "video" if video else "image",
            "shape": (size, size, 3),
            "names": ["height", "width", "channel"],
        }
    dataset = LeRobotDataset.create(
        "fake/data", fps=fps, features=features, root=root, robot_type=robot_type, use_videos=video
    )
    draw = np.random.default_rng(0)
    for episode, length in enumerate(lengths):
        walk = draw.normal(size=(length + 1, max(dim, state_dim))).cumsum(axis=0).astype(np.float32)
        for t in range(length):
            frame: dict[str, Any] = {
                STATE: walk[t, :state_dim] * 10 + 100,
                "action": walk[t + 1, :dim] * 10 + 100,
                "task": tasks[episode % len(tasks)],
            }
            for camera in cameras:
                frame[camera] = draw.integers(0, 255, (size, size, 3), dtype=np.uint8)
            dataset.add_frame(frame)
        dataset.save_episode()
    dataset.finalize()
    return root


def dataset_stats(root: Path) -> dict[str, Any]:
    stats = json.loads((root / "meta" / "stats.json").read_text())
    return {k: {n: torch.tensor(v) for n, v in s.items()} for k, s in stats.items()}


def write_policy(
    path: Path,
    root: Path,
    kind: str,
    *,
    cameras: dict[str, int] | None = None,
    action_dim: int = 2,
    state_dim: int = 2,
    stats: dict[str, Any] | None = None,
    vlm_width: int = 32,
    vlm_image: int = 32,
    seed: int = 0,
    **settings: Any,
) -> Path:
    """A checkpoint with random weights and saved processors, in lerobot's own hand.

    Args:
        path: where to write it.
        root: the dataset whose statistics it is "trained" with.
        kind: one of `_SMALL`.
        cameras: policy camera key → size.
        action_dim: of its output.
        state_dim: of its input.
        stats: statistics instead of the dataset's.
        vlm_width: hidden size of a SmolVLA's language and vision models.
        vlm_image: pixels of its pictures' sides.
        seed: of the weights.
        settings: further fields of its config.
    """
    from lerobot.configs import FeatureType, NormalizationMode, PolicyFeature
    from lerobot.policies.factory import (
        get_policy_class,
        make_policy_config,
        make_pre_post_processors,
    )

    torch.manual_seed(seed)
    cameras = {IMAGE: 64} if cameras is None else cameras
    bounded = kind in ("vqbet", "tdmpc", "gaussian_actor")  # their outputs lie in [-1, 1]
    mode = NormalizationMode.MIN_MAX if bounded else NormalizationMode.MEAN_STD
    common: dict[str, Any] = {
        "device": "cpu",
        "push_to_hub": False,
        "input_features": {
            STATE: PolicyFeature(FeatureType.STATE, (state_dim,)),
            **{k: PolicyFeature(FeatureType.VISUAL, (3, n, n)) for k, n in cameras.items()},
        },
        "output_features": {"action": PolicyFeature(FeatureType.ACTION, (action_dim,))},
        "normalization_mapping": {
            "VISUAL": NormalizationMode.IDENTITY,
            "STATE": mode,
            "ACTION": mode,
        },
    }
    path.mkdir(parents=True)
    sizes = _SMALL[kind]
    if kind == "smolvla":
        write_vlm(path / "vlm", width=vlm_width, image=vlm_image)
        common["vlm_model_name"] = str(path / "vlm")
        sizes = {**sizes, "max_action_dim": action_dim + 2, "max_state_dim": state_dim + 1}
    config = make_policy_config(kind, **{**common, **sizes, **settings})
    policy = get_policy_class(kind)(config)
    policy.save_pretrained(path)
    pre, post = make_pre_post_processors(config, dataset_stats=stats or dataset_stats(root))
    pre.save_pretrained(path)
    post.save_pretrained(path)
    return path


_SMALL: dict[str, dict[str, Any]] = {
    "smolvla": {
        "chunk_size": 6,
        "n_action_steps": 3,
        "resize_imgs_with_padding": (32, 32),
        "tokenizer_max_length": 16,
        "num_steps": 2,
        "load_vlm_weights": False,
        "num_vlm_layers": 2,
        "freeze_vision_encoder": False,
        "train_expert_only": False,
        "expert_width_multiplier": 0.5,
    },
    "act": {
        "chunk_size": 6,
        "n_action_steps": 3,
        "dim_model": 32,
        "n_heads": 2,
        "dim_feedforward": 32,
        "n_encoder_layers": 1,
        "n_vae_encoder_layers": 1,
        "latent_dim": 8,
        "pretrained_backbone_weights": None,
    },
    "diffusion": {
        "n_obs_steps": 2,
        "horizon": 8,
        "n_action_steps": 4,
        "down_dims": (16, 32),
        "n_groups": 4,
        "num_inference_steps": 2,
        "noise_scheduler_type": "DDIM",
        "crop_shape": None,
        "pretrained_backbone_weights": None,
        "spatial_softmax_num_keypoints": 4,
        "diffusion_step_embed_dim": 16,
    },
    "vqbet": {
        "n_obs_steps": 2,
        "n_action_pred_token": 3,
        "action_chunk_size": 4,
        "crop_shape": (56, 56),
        "pretrained_backbone_weights": None,
        "use_group_norm": True,
        "spatial_softmax_num_keypoints": 4,
        "vqvae_n_embed": 4,
        "vqvae_embedding_dim": 16,
        "vqvae_enc_hidden_dim": 16,
        "gpt_block_size": 32,
        "gpt_input_dim": 32,
        "gpt_output_dim": 32,
        "gpt_n_layer": 1,
        "gpt_n_head": 2,
        "gpt_hidden_dim": 32,
    },
    "tdmpc": {
        "horizon": 3,
        "n_action_repeats": 1,
        "n_action_steps": 3,
        "image_encoder_hidden_dim": 8,
        "state_encoder_hidden_dim": 16,
        "latent_dim": 8,
        "mlp_dim": 16,
        "cem_iterations": 2,
        "n_gaussian_samples": 16,
        "n_pi_samples": 4,
        "n_elites": 4,
    },
    "gaussian_actor": {
        "image_encoder_hidden_dim": 8,
        "state_encoder_hidden_dim": 16,
        "latent_dim": 8,
    },
}


def write_vlm(folder: Path, *, width: int = 32, image: int = 32) -> None:
    """Config, tokenizer and processor of a tiny SmolVLM, without weights."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import SmolVLMConfig

    folder.mkdir(parents=True)
    specials = ["<pad>", "<bos>", "<eos>", "<image>", "<fake>", "<global>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(
        models.BPE(vocab={word: i for i, word in enumerate(specials + alphabet)}, merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = ("pad", "bos", "eos", "image", "fake_image", "global_image")
    tokens = {f"{name}_token": word for name, word in zip(names, specials, strict=True)}
    pixels = {
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "size": {"longest_edge": image},
        "max_image_size": {"longest_edge": image},
    }
    files = {
        "tokenizer_config.json": {
            **tokens,
            "end_of_utterance_token": "<eos>",
            "model_max_length": 64,
            "tokenizer_class": "PreTrainedTokenizerFast",
            "processor_class": "SmolVLMProcessor",
        },
        "processor_config.json": {
            "image_processor": {**pixels, "image_processor_type": "SmolVLMImageProcessor"},
            "video_processor": {**pixels, "video_processor_type": "SmolVLMVideoProcessor"},
            "image_seq_len": 4,
            "processor_class": "SmolVLMProcessor",
        },
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    small = {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": 2}
    SmolVLMConfig(
        image_token_id=3,
        pad_token_id=0,
        scale_factor=2,
        text_config={
            "model_type": "llama",
            **small,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": width // 2,
            "vocab_size": len(specials) + len(alphabet),
            "pad_token_id": 0,
        },
        vision_config={
            "model_type": "smolvlm_vision",
            **small,
            "image_size": image,
            "patch_size": 8,
            "num_attention_heads": 2,
        },
    ).save_pretrained(folder)


def config_for(root: Path, policy: Path | str, out: Path, **settings: Any) -> EvalConfig:
    """An evaluation of a checkpoint directory, or of a built-in policy by name."""
    who = (
        PolicyConfig(path=str(policy))
        if isinstance(policy, Path)
        else PolicyConfig(type=policy, chunk_size=6)  # type: ignore[arg-type]
    )
    episodes = settings.pop("episodes", None)
    units = settings.pop("action_units", "px")
    data = DatasetConfig(repo_id="fake/data", root=str(root), episodes=episodes, action_units=units)
    defaults: dict[str, Any] = {"latency_calls": 0, "device": "cpu"}
    return EvalConfig(policy=who, dataset=data, output_dir=str(out), **{**defaults, **settings})
