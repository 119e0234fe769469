"""Small real things: datasets written by lerobot, checkpoints of lerobot's own classes."""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

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
    solved_at: tuple[int | None, ...] | None = None,
) -> Path:
    """A LeRobot v3.0 dataset of smooth random motions, in lerobot's own hand.

    `solved_at` is the frame of each episode from which on ``next.success`` is true, or None.
    """
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
    if solved_at is not None:
        features["next.success"] = {"dtype": "bool", "shape": (1,), "names": None}
        features["next.reward"] = {"dtype": "float32", "shape": (1,), "names": None}
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
            if solved_at is not None:
                first = solved_at[episode]
                frame["next.success"] = np.array([first is not None and t >= first])
                frame["next.reward"] = np.array([t / 10], np.float32)
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
    cameras: Mapping[str, int | tuple[int, int]] | None = None,
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
        cameras: policy camera key → side of a square, or height and width.
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
    bounded = kind in ("vqbet", "tdmpc", "gaussian_actor", "multi_task_dit")  # within [-1, 1]
    mode = NormalizationMode.MIN_MAX if bounded else NormalizationMode.MEAN_STD
    common: dict[str, Any] = {
        "device": "cpu",
        "push_to_hub": False,
        "input_features": {
            STATE: PolicyFeature(FeatureType.STATE, (state_dim,)),
            **{k: PolicyFeature(FeatureType.VISUAL, (3, *_sides(n))) for k, n in cameras.items()},
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
    if kind == "multi_task_dit":
        write_clip(path / "clip")
        common |= dict.fromkeys(("vision_encoder_name", "text_encoder_name"), str(path / "clip"))
    if kind == "xvla":
        write_tokenizer(path / "bart")
        common["tokenizer_name"] = str(path / "bart")
    if kind in ("pi0", "pi05"):
        write_tokenizer(path / "paligemma")
    with small_pi(path / "paligemma"):
        config = make_policy_config(kind, **{**common, **sizes, **settings})
        policy = get_policy_class(kind)(config)
        policy.save_pretrained(path)
        pre, post = make_pre_post_processors(config, dataset_stats=stats or dataset_stats(root))
    pre.save_pretrained(path)
    post.save_pretrained(path)
    return path


def _sides(size: int | tuple[int, int]) -> tuple[int, int]:
    return size if isinstance(size, tuple) else (size, size)


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
    "multi_task_dit": {
        "n_obs_steps": 2,
        "horizon": 8,
        "n_action_steps": 4,
        "num_train_timesteps": 4,
        "num_inference_steps": 2,
        "hidden_dim": 16,
        "num_layers": 1,
        "num_heads": 2,
        "timestep_embed_dim": 16,
        "image_resize_shape": (32, 32),
        "image_crop_shape": (32, 32),
        "tokenizer_max_length": 32,
    },
    "xvla": {
        "chunk_size": 6,
        "n_action_steps": 3,
        "action_mode": "auto",
        "max_action_dim": 4,
        "max_state_dim": 4,
        "num_denoising_steps": 2,
        "hidden_size": 16,
        "depth": 1,
        "num_heads": 2,
        "num_domains": 2,
        "len_soft_prompts": 2,
        "dim_time": 8,
        "max_len_seq": 128,
        "tokenizer_max_length": 16,
        "resize_imgs_with_padding": (32, 32),
        "florence_config": {
            "vision_config": {
                "depths": [1],
                "patch_size": [7],
                "patch_stride": [4],
                "patch_padding": [3],
                "patch_prenorm": [False],
                "embed_dim": [16],
                "num_heads": [2],
                "num_groups": [2],
                "window_size": 4,
                "projection_dim": 16,
            },
            "text_config": {
                "vocab_size": 300,
                "d_model": 16,
                "encoder_layers": 1,
                "decoder_layers": 1,
                "encoder_attention_heads": 2,
                "decoder_attention_heads": 2,
                "encoder_ffn_dim": 16,
                "decoder_ffn_dim": 16,
                "max_position_embeddings": 128,
            },
        },
    },
}
_SMALL["pi0"] = _SMALL["pi05"] = {
    "chunk_size": 6,
    "n_action_steps": 3,
    "max_action_dim": 4,
    "max_state_dim": 4,
    "num_inference_steps": 2,
    "image_resolution": (28, 28),
    "tokenizer_max_length": 64,
}


@contextlib.contextmanager
def small_pi(tokenizer: Path | None = None) -> Iterator[None]:
    """Shrink the sizes that lerobot fixes in the code of PI0 and PI0.5, not in their config.

    Args:
        tokenizer: a folder in place of PaliGemma's, which lerobot names in the code, too.
    """
    with contextlib.ExitStack() as stack:
        for kind in ("pi0", "pi05"):
            module = importlib.import_module(f"lerobot.policies.{kind}.modeling_{kind}")

            def tiny(_: str, of: Any = module.GemmaConfig) -> Any:
                return of(width=16, depth=1, mlp_dim=16, num_heads=2, num_kv_heads=1, head_dim=8)

            def vlm(
                config: Any, of: Any = module.PaliGemmaForConditionalGenerationWithPiGemma
            ) -> Any:
                config.text_config.vocab_size = 300
                vision = {"num_hidden_layers": 1, "num_attention_heads": 2, "projection_dim": 16}
                for name, value in {**vision, "hidden_size": 16, "intermediate_size": 16}.items():
                    setattr(config.vision_config, name, value)
                return of(config=config)

            def expert(config: Any, of: Any = module.PiGemmaForCausalLM) -> Any:
                config.vocab_size = 300
                return of(config=config)

            patches = {
                "get_gemma_config": tiny,
                "PaliGemmaForConditionalGenerationWithPiGemma": vlm,
                "PiGemmaForCausalLM": expert,
            }
            stack.enter_context(mock.patch.multiple(module, **patches))
            if tokenizer is not None:
                module = importlib.import_module(f"lerobot.policies.{kind}.processor_{kind}")
                step = module.TokenizerProcessorStep

                def local(of: Any = step, **settings: Any) -> Any:
                    return of(**{**settings, "tokenizer_name": str(tokenizer)})

                stack.enter_context(mock.patch.object(module, "TokenizerProcessorStep", local))
        yield


def write_clip(folder: Path) -> None:
    """A tiny CLIP with random weights and a tokenizer."""
    from transformers import CLIPConfig, CLIPModel

    write_tokenizer(folder)
    small = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    tokens = {"vocab_size": 300, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    config = CLIPConfig(
        text_config={**small, **tokens, "max_position_embeddings": 32},
        vision_config={**small, "image_size": 32, "patch_size": 16},
        projection_dim=16,
    )
    CLIPModel(config).save_pretrained(folder)


def write_tokenizer(folder: Path, **settings: str) -> int:
    """A tokenizer of bytes; returns its number of words."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder.mkdir(parents=True)
    specials = ["<pad>", "<bos>", "<eos>", "<image>", "<fake>", "<global>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(
        models.BPE(vocab={word: i for i, word in enumerate(specials + alphabet)}, merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = ("pad", "bos", "eos", "image", "fake_image", "global_image")
    content = {
        **{f"{name}_token": word for name, word in zip(names, specials, strict=True)},
        "end_of_utterance_token": "<eos>",
        "model_max_length": int(1e30),  # as transformers writes it where there is no longest text
        "tokenizer_class": "PreTrainedTokenizerFast",
        **settings,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(content))
    return len(specials) + len(alphabet)


def write_vlm(folder: Path, *, width: int = 32, image: int = 32) -> None:
    """Config, tokenizer and processor of a tiny SmolVLM, without weights."""
    from transformers import SmolVLMConfig

    n_words = write_tokenizer(folder, processor_class="SmolVLMProcessor")
    pixels = {
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "size": {"longest_edge": image},
        "max_image_size": {"longest_edge": image},
    }
    files = {
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
            "vocab_size": n_words,
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
