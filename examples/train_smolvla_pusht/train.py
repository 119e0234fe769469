#!/usr/bin/env python
"""Train a small SmolVLA from scratch on PushT, on a CPU.

The policy is lerobot's own ``SmolVLAPolicy``; only the data path is replaced: all frames are
decoded once into memory, and every batch is augmented with transformations that move picture,
state and actions together. See README.md next to this file.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import math
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from lerobot.configs.types import FeatureType, NormalizationMode, PolicyFeature
from lerobot.datasets.lerobot_dataset import LeRobotDatasetMetadata
from lerobot.policies.smolvla.configuration_smolvla import SmolVLAConfig
from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy
from lerobot.policies.smolvla.processor_smolvla import make_smolvla_pre_post_processors
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import SmolVLMConfig

IMAGE_KEY = "observation.image"
STATE_KEY = "observation.state"
BOARD = 512.0  # side of the PushT board, in the units of state and action
GOAL_X, GOAL_Y, GOAL_ANGLE = 256.0, 256.0, math.pi / 4
BLOCK_RGB = (140, 156, 172)  # the block, between its fill and its outline
VLM_DIR = "vlm"
VALIDATION_FRAMES = 128


@dataclass
class Demos:
    """Demonstrations of some episodes, entirely in memory."""

    images: Tensor  # (N, H, W, 3) uint8
    state: Tensor  # (N, 2)
    action: Tensor  # (N, 2)
    last: Tensor  # (N,) index of the last frame of the frame's episode
    keypoints: Tensor  # (N, 2, 2) two points of the block, on the board (see block_keypoints)
    keypoints_ok: Tensor  # (N,) bool
    task: str


def parse_range(text: str | None) -> list[int]:
    """Read ``"0:185"`` (end excluded) or an empty text."""
    if not text:
        return []
    start, stop = text.split(":")
    return list(range(int(start), int(stop)))


def decode_video(path: Path, start_frame: int, num_frames: int, fps: float) -> np.ndarray:
    """Decode ``num_frames`` consecutive RGB frames beginning with frame ``start_frame``."""
    frames = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for frame in container.decode(stream):
            index = round(frame.time * fps)
            if index >= start_frame + num_frames:
                break
            if index >= start_frame:
                frames.append(frame.to_ndarray(format="rgb24"))
    if len(frames) != num_frames:
        raise ValueError(f"{path}: {len(frames)} frames decoded, {num_frames} expected")
    return np.stack(frames)


def block_keypoints(images: Tensor) -> tuple[Tensor, Tensor]:
    """Locate the T-shaped block in frames by its colour.

    Returns two points on the board for each frame: the block's centroid and a point 60 units
    from it along its stem. They serve only as targets of an auxiliary loss that teaches the
    vision encoder where the block is; the policy has no such input or output. The stem is the
    major axis of the block's pixels, its sign comes from their third moment.
    """
    n, height, width, _ = images.shape
    xs = (torch.arange(width) + 0.5) * (BOARD / width)
    ys = (torch.arange(height) + 0.5) * (BOARD / height)
    points = torch.zeros(n, 2, 2)
    ok = torch.zeros(n, dtype=torch.bool)
    colour = torch.tensor(BLOCK_RGB, dtype=torch.float32)
    for begin in range(0, n, 1024):
        chunk = images[begin : begin + 1024].float()
        mask = ((chunk - colour).abs().amax(-1) < 34).float()
        mass = mask.sum((1, 2)).clamp_min(1)
        cx = (mask * xs).sum((1, 2)) / mass
        cy = (mask * ys[:, None]).sum((1, 2)) / mass
        dx = xs - cx[:, None, None]
        dy = (ys[None, :] - cy[:, None])[:, :, None]
        cxx = (mask * dx * dx).sum((1, 2)) / mass
        cyy = (mask * dy * dy).sum((1, 2)) / mass
        cxy = (mask * dx * dy).sum((1, 2)) / mass
        angle = 0.5 * torch.atan2(2 * cxy, cxx - cyy)
        ux, uy = angle.cos(), angle.sin()
        along = dx * ux[:, None, None] + dy * uy[:, None, None]
        sign = torch.where((mask * along**3).sum((1, 2)) >= 0, 1.0, -1.0)
        centre = torch.stack([cx, cy], -1)
        stem = torch.stack([ux, uy], -1) * sign[:, None]
        points[begin : begin + 1024] = torch.stack([centre, centre + 60 * stem], 1)
        # The block covers 6300 of 512 * 512 square units.
        expected = 6300 / BOARD**2 * height * width
        ok[begin : begin + 1024] = (mass > 0.6 * expected) & (mass < 1.3 * expected)
    return points, ok


def load_demos(root: Path, episodes: list[int]) -> Demos:
    """Read episodes of a LeRobot v3.0 dataset into memory."""
    import pandas as pd

    meta = LeRobotDatasetMetadata("local/pusht", root=root)
    table = pd.concat([pd.read_parquet(p) for p in sorted((root / "data").rglob("*.parquet"))])
    images, states, actions, last, total = [], [], [], [], 0
    for path, group in _group_by_video(meta, episodes):
        first = min(start for _, start, _ in group)
        stop = max(start + length for _, start, length in group)
        frames = decode_video(path, first, stop - first, meta.fps)
        for episode, start, length in group:
            rows = table[table["episode_index"] == episode].sort_values("frame_index")
            if len(rows) != length:
                raise ValueError(f"episode {episode}: {len(rows)} rows, {length} expected")
            images.append(frames[start - first : start - first + length])
            states.append(np.stack(rows[STATE_KEY].to_list()))
            actions.append(np.stack(rows["action"].to_list()))
            total += length
            last.append(np.full(length, total - 1))
    pictures = torch.from_numpy(np.concatenate(images))
    keypoints, keypoints_ok = block_keypoints(pictures)
    return Demos(
        images=pictures,
        state=torch.from_numpy(np.concatenate(states)).float(),
        action=torch.from_numpy(np.concatenate(actions)).float(),
        last=torch.from_numpy(np.concatenate(last)),
        keypoints=keypoints,
        keypoints_ok=keypoints_ok,
        task=str(meta.tasks.index[0]),
    )


def _group_by_video(
    meta: LeRobotDatasetMetadata, episodes: list[int]
) -> list[tuple[Path, list[tuple[int, int, int]]]]:
    """Group episodes by video file, as (episode, first frame in the file, length)."""
    groups: dict[Path, list[tuple[int, int, int]]] = {}
    for episode in episodes:
        row = meta.episodes[episode]
        start = round(float(row[f"videos/{IMAGE_KEY}/from_timestamp"]) * meta.fps)
        path = Path(meta.root) / meta.get_video_file_path(episode, IMAGE_KEY)
        groups.setdefault(path, []).append((episode, start, int(row["length"])))
    return list(groups.items())


def dataset_stats(demos: Demos) -> dict[str, dict[str, Tensor]]:
    """Mean and standard deviation of state and action over the given frames."""
    stats = {}
    for key, value in ((STATE_KEY, demos.state), ("action", demos.action)):
        value = value.double()
        stats[key] = {
            "mean": value.mean(0).float(),
            "std": value.std(0, unbiased=False).float(),
            "min": value.amin(0).float(),
            "max": value.amax(0).float(),
        }
    return stats


def write_vlm(folder: Path, task: str, image_size: int) -> None:
    """Write config, tokenizer and processor of the tiny SmolVLM inside the policy."""
    folder.mkdir(parents=True, exist_ok=True)
    specials = [
        "<|endoftext|>",
        "<|im_start|>",
        "<end_of_utterance>",
        "<image>",
        "<fake_token_around_image>",
        "<global-img>",
    ]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=288,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([task + "\n"] * 4, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(
        folder / "tokenizer_config.json",
        {
            "bos_token": "<|im_start|>",
            "eos_token": "<end_of_utterance>",
            "pad_token": "<|im_start|>",
            "image_token": "<image>",
            "fake_image_token": "<fake_token_around_image>",
            "global_image_token": "<global-img>",
            "end_of_utterance_token": "<end_of_utterance>",
            "model_max_length": 512,
            "padding_side": "right",
            "processor_class": "SmolVLMProcessor",
            "tokenizer_class": "PreTrainedTokenizerFast",
        },
    )
    pixels = {
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_pad": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "max_image_size": {"longest_edge": image_size},
        "resample": 1,
        "rescale_factor": 1 / 255,
        "size": {"longest_edge": image_size},
    }
    _write_json(
        folder / "processor_config.json",
        {
            "image_processor": {
                **pixels,
                "do_image_splitting": False,
                "image_processor_type": "SmolVLMImageProcessor",
            },
            "video_processor": {
                **pixels,
                "do_sample_frames": False,
                "video_processor_type": "SmolVLMVideoProcessor",
            },
            "image_seq_len": 36,
            "processor_class": "SmolVLMProcessor",
        },
    )
    config = SmolVLMConfig(
        image_token_id=3,
        pad_token_id=1,
        scale_factor=2,
        tie_word_embeddings=False,
        text_config={
            "model_type": "llama",
            "hidden_size": 192,
            "intermediate_size": 512,
            "num_hidden_layers": 4,
            "num_attention_heads": 6,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "vocab_size": tokenizer.get_vocab_size(),
            "max_position_embeddings": 512,
            "rms_norm_eps": 1e-6,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 1,
            "tie_word_embeddings": False,
        },
        vision_config={
            "model_type": "smolvlm_vision",
            "image_size": image_size,
            "patch_size": 8,
            "hidden_size": 192,
            "intermediate_size": 512,
            "num_hidden_layers": 4,
            "num_attention_heads": 3,
            "num_channels": 3,
            "hidden_act": "silu",
        },
    )
    config.save_pretrained(folder)


def _write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def make_policy(vlm: Path, image_size: int) -> SmolVLAPolicy:
    """Build the policy with random weights."""
    config = SmolVLAConfig(
        input_features={
            IMAGE_KEY: PolicyFeature(FeatureType.VISUAL, (3, image_size, image_size)),
            STATE_KEY: PolicyFeature(FeatureType.STATE, (2,)),
        },
        output_features={"action": PolicyFeature(FeatureType.ACTION, (2,))},
        normalization_mapping={
            "VISUAL": NormalizationMode.IDENTITY,
            "STATE": NormalizationMode.MEAN_STD,
            "ACTION": NormalizationMode.MEAN_STD,
        },
        device="cpu",
        push_to_hub=False,
        n_obs_steps=1,
        chunk_size=16,
        n_action_steps=8,
        max_state_dim=2,
        max_action_dim=2,
        resize_imgs_with_padding=(image_size, image_size),
        num_steps=3,
        load_vlm_weights=False,
        vlm_model_name=str(vlm),
        num_vlm_layers=4,
        self_attn_every_n_layers=2,
        expert_width_multiplier=0.75,
        freeze_vision_encoder=False,
        train_expert_only=False,
    )
    policy = SmolVLAPolicy(config)
    # A stage that runs under bfloat16 autocast is faster with plain matrix products than with
    # the CPU's fused attention, whose bfloat16 backward pass is slow.
    vision = policy.model.vlm_with_expert.vlm.model.vision_model
    for module in vision.modules():
        if hasattr(getattr(module, "config", None), "_attn_implementation"):
            module.config._attn_implementation = "eager"
    return policy


class Augment:
    """Random transformations of picture, state, actions and keypoints together."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.strength = 1.0  # of the transformations that are not exact symmetries
        stem = torch.tensor([-math.sin(GOAL_ANGLE), math.cos(GOAL_ANGLE)])
        corner = torch.tensor([GOAL_X, GOAL_Y])
        self.goal = torch.stack([corner, corner + 100 * stem])

    def __call__(
        self, image: Tensor, state: Tensor, action: Tensor, keypoints: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return image, state, action, keypoints and the goal's keypoints, transformed.

        Args:
            image: (B, 3, H, W) in [0, 1].
            state: (B, 2), board units.
            action: (B, T, 2), board units.
            keypoints: (B, K, 2), board units.
        """
        args, batch, strength = self.args, image.shape[0], self.strength
        goal = self.goal.expand(batch, -1, -1).clone()
        # Reflection about the goal's own axis of symmetry, the line x + y = 512:
        # (x, y) -> (512 - y, 512 - x). Exact: the task is mapped onto itself.
        mirror = torch.rand(batch) < args.mirror
        image = torch.where(mirror[:, None, None, None], image.transpose(2, 3).flip(2, 3), image)
        state = torch.where(mirror[:, None], BOARD - state.flip(-1), state)
        action = torch.where(mirror[:, None, None], BOARD - action.flip(-1), action)
        keypoints = torch.where(mirror[:, None, None], BOARD - keypoints.flip(-1), keypoints)
        goal = torch.where(mirror[:, None, None], BOARD - goal.flip(-1), goal)

        # Small rotation about the board's centre and shift of the whole scene, goal included.
        moved = (torch.rand(batch) < args.affine).float()
        angle = (torch.rand(batch) * 2 - 1) * math.radians(args.max_rotation) * moved * strength
        shift = (torch.rand(batch, 2) * 2 - 1) * args.max_shift * strength * moved[:, None]
        cos, sin = angle.cos(), angle.sin()
        rotation = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)

        def move(points: Tensor) -> Tensor:
            centred = (points - BOARD / 2) @ rotation.transpose(1, 2)
            return centred + BOARD / 2 + shift[:, None]

        state, action = move(state[:, None])[:, 0], move(action)
        keypoints, goal = move(keypoints), move(goal)
        index = moved.nonzero()[:, 0]
        if len(index):
            # grid_sample asks where each target pixel comes from: the inverse map.
            inverse = rotation[index].transpose(1, 2)
            offset = -(inverse @ (shift[index] / (BOARD / 2))[:, :, None])
            grid = F.affine_grid(
                torch.cat([inverse, offset], -1), [len(index), *image.shape[1:]], False
            )
            image = image.clone()
            warped = F.grid_sample(image[index] - 1, grid, align_corners=False)
            image[index] = warped + 1  # white outside the board

        # Light: contrast, brightness and a little pixel noise.
        gain = 1 + (torch.rand(batch, 3, 1, 1) * 2 - 1) * args.jitter
        bias = (torch.rand(batch, 1, 1, 1) * 2 - 1) * args.jitter / 2
        image = image * gain + bias + torch.randn_like(image) * args.pixel_noise
        # The state: noise, so that the picture matters too.
        noisy = (torch.rand(batch, 1) < 0.5).float()
        state = state + torch.randn_like(state) * args.state_noise * strength * noisy
        return image.clamp(0, 1), state, action, keypoints, goal


class KeypointHead(nn.Module):
    """Auxiliary read-out of block and goal keypoints from the image tokens (not saved)."""

    def __init__(self, width: int, tokens: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width * tokens, 8)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, tokens, width) to (B, 4, 2), in half boards from the board's centre."""
        return self.out(self.norm(tokens.float()).flatten(1)).view(-1, 4, 2)


def cooling(step: int, args: argparse.Namespace) -> float:
    """One until the last part of the run, then linearly down to zero."""
    decay_steps = max(1, round(args.steps * args.decay_fraction))
    return min(1.0, (args.steps - step) / decay_steps)


def learning_rate(step: int, args: argparse.Namespace) -> float:
    """Linear warm-up, constant, then a linear decay over the last part of the run."""
    warm = min(1.0, (step + 1) / max(1, args.warmup_steps))
    return args.lr * warm * max(0.02, cooling(step, args))


class Trainer:
    """Holds the policy, its moving average, the data and the optimizer."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.output = Path(args.output_dir).resolve()
        self.output.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(args.seed)
        validation = parse_range(args.validation_episodes)
        training = [e for e in parse_range(args.episodes) if e not in validation]
        begin = time.perf_counter()
        self.demos = load_demos(Path(args.dataset_root), training)
        self.validation = load_demos(Path(args.dataset_root), validation) if validation else None
        print(
            f"{len(training)} training episodes, {len(self.demos.state)} frames, "
            f"{int(self.demos.keypoints_ok.sum())} with keypoints "
            f"(read in {time.perf_counter() - begin:.0f} s)",
            flush=True,
        )
        self.stats = dataset_stats(self.demos)
        image_size = self.demos.images.shape[1]
        vlm = self.output / VLM_DIR
        write_vlm(vlm, self.demos.task, image_size)
        self.policy = make_policy(vlm, image_size)
        self.policy.train()
        self.ema = copy.deepcopy(self.policy).eval().requires_grad_(False)
        self.preprocessor, self.postprocessor = make_smolvla_pre_post_processors(
            self.policy.config, self.stats
        )
        model = self.policy.model.vlm_with_expert
        width = model.config.text_config.hidden_size
        self.head = KeypointHead(width, (image_size // 16) ** 2)
        self.tokens: list[Tensor] = []
        model.vlm.model.connector.register_forward_hook(
            lambda _module, _inputs, output: self.tokens.append(output)
        )
        sample = self.preprocessor(
            {
                IMAGE_KEY: torch.zeros(3, image_size, image_size),
                STATE_KEY: torch.zeros(2),
                "task": self.demos.task,
            }
        )
        self.language = {k: v for k, v in sample.items() if k.startswith("observation.language")}
        self.augment = Augment(args)
        named = [
            (n, p)
            for n, p in [*self.policy.named_parameters(), *self.head.named_parameters()]
            if p.requires_grad
        ]
        matrices = [p for n, p in named if p.ndim >= 2 and "embed" not in n]
        others = [p for n, p in named if not (p.ndim >= 2 and "embed" not in n)]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": args.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=args.lr,
            betas=(0.9, 0.95),
            fused=True,
        )
        self.parameters = [p for _, p in named]
        self.step = 0
        if args.resume and (self.output / "last.pt").exists():
            self.load()
        if args.compile:
            encoder = model.vlm.model.vision_model.encoder
            encoder.forward = torch.compile(encoder.forward)
            model.forward = torch.compile(model.forward)

    def normalize(self, key: str, value: Tensor) -> Tensor:
        """MEAN_STD normalization as lerobot's processor does it."""
        return (value - self.stats[key]["mean"]) / (self.stats[key]["std"] + 1e-8)

    def batch(self, demos: Demos, index: Tensor, augment: bool) -> dict[str, Tensor]:
        """Assemble a normalized batch for ``SmolVLAPolicy.forward``."""
        chunk = self.policy.config.chunk_size
        ahead = index[:, None] + torch.arange(chunk)
        last = demos.last[index][:, None]
        image = demos.images[index].permute(0, 3, 1, 2).float() / 255
        state, action = demos.state[index], demos.action[torch.minimum(ahead, last)]
        points, goal = demos.keypoints[index], self.augment.goal.expand(len(index), -1, -1)
        if augment:
            image, state, action, points, goal = self.augment(image, state, action, points)
        state = self.normalize(STATE_KEY, state)
        if augment:
            keep = torch.rand(len(index), 1) >= self.args.state_dropout * self.augment.strength
            state = state * keep
        return {
            IMAGE_KEY: image,
            STATE_KEY: state,
            "action": self.normalize("action", action),
            "action_is_pad": ahead > last,
            "keypoints": torch.cat([points, goal], 1) / (BOARD / 2) - 1,
            "keypoints_ok": demos.keypoints_ok[index],
            **{k: v.expand(len(index), -1) for k, v in self.language.items()},
        }

    def train_step(self) -> tuple[float, float]:
        """Take one optimizer step and return the policy's and the keypoints' loss."""
        args = self.args
        torch.manual_seed((args.seed + 1) * 1_000_003 + self.step)
        index = torch.randint(len(self.demos.state), (args.batch_size,))
        self.augment.strength = 0.3 + 0.7 * cooling(self.step, args)
        batch = self.batch(self.demos, index, augment=True)
        rate = learning_rate(self.step, args)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.tokens.clear()
        autocast = torch.autocast("cpu", torch.bfloat16) if args.bf16 else contextlib.nullcontext()
        with autocast:
            loss, _ = self.policy.forward(batch)
        error = F.smooth_l1_loss(
            self.head(self.tokens[-1]), batch["keypoints"], reduction="none", beta=0.05
        )
        usable = batch["keypoints_ok"].float()
        auxiliary = (error.mean((1, 2)) * usable).sum() / usable.sum().clamp_min(1)
        (loss + args.keypoint_weight * auxiliary).backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        # Moving average of the weights, shorter at the beginning of the run.
        decay = min(args.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            pairs = zip(self.ema.parameters(), self.policy.parameters(), strict=True)
            targets, sources = (list(side) for side in zip(*pairs, strict=True))
            torch._foreach_lerp_(targets, [s.detach() for s in sources], 1 - decay)
        return float(loss.detach()), float(auxiliary.detach())

    @torch.no_grad()
    def validate(self) -> str:
        """Mean absolute error of the averaged weights on the validation episodes."""
        if self.validation is None:
            return ""
        demos = self.validation
        stride = max(1, len(demos.state) // VALIDATION_FRAMES)
        index = torch.arange(0, len(demos.state), stride)
        batch = self.batch(demos, index, augment=False)
        torch.manual_seed(self.args.seed)
        config = self.policy.config
        noise = torch.randn(len(index), config.chunk_size, config.max_action_dim)
        predicted = self.ema.predict_action_chunk(batch, noise=noise)
        error = ((predicted - batch["action"]) * self.stats["action"]["std"]).abs().mean(-1)
        hold = (demos.state[index] - demos.action[index]).abs().mean()
        valid = ~batch["action_is_pad"]
        return (
            f"validation MAE: first action {error[:, 0].mean():.2f} (hold state {hold:.2f}), "
            f"chunk {error[valid].mean():.2f}"
        )

    def load(self) -> None:
        """Continue from ``last.pt``."""
        saved = torch.load(self.output / "last.pt", weights_only=True)
        self.policy.load_state_dict(saved["policy"])
        self.ema.load_state_dict(saved["ema"])
        self.head.load_state_dict(saved["head"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.step = saved["step"]
        print(f"resumed at step {self.step}", flush=True)

    def save(self) -> None:
        """Write the state of training and the LeRobot checkpoint of the averaged weights."""
        state = {
            "policy": self.policy.state_dict(),
            "ema": self.ema.state_dict(),
            "head": self.head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }
        torch.save(state, self.output / "last.pt.tmp")
        (self.output / "last.pt.tmp").replace(self.output / "last.pt")
        final, partial = self.output / "checkpoint", self.output / "checkpoint.tmp"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        exported = copy.deepcopy(self.ema).half()  # half precision on disk
        exported.config.vlm_model_name = VLM_DIR  # relative to the checkpoint
        exported.save_pretrained(partial)
        config = copy.deepcopy(self.policy.config)
        config.vlm_model_name = str(self.output / VLM_DIR)
        preprocessor, postprocessor = make_smolvla_pre_post_processors(config, self.stats)
        preprocessor.save_pretrained(partial)
        postprocessor.save_pretrained(partial)
        for path in partial.glob("*.json"):
            path.write_text(path.read_text().replace(json.dumps(config.vlm_model_name), '"vlm"'))
        shutil.copytree(self.output / VLM_DIR, partial / VLM_DIR)
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)

    def run(self) -> None:
        """Train up to the requested number of steps."""
        args = self.args
        began, losses = time.perf_counter(), []
        saved_at = began
        while self.step < args.steps:
            losses.append(self.train_step())
            if self.step % args.log_every == 0 or self.step == args.steps:
                loss, auxiliary = np.mean(losses, axis=0)
                seconds = (time.perf_counter() - began) / len(losses)
                print(
                    f"{time.strftime('%H:%M:%S')} step {self.step} loss {loss:.4f} "
                    f"keypoints {auxiliary:.4f} lr {learning_rate(self.step, args):.2e} "
                    f"{seconds:.3f} s/step",
                    flush=True,
                )
                began, losses = time.perf_counter(), []
            if time.perf_counter() - saved_at > args.save_minutes * 60 or self.step == args.steps:
                self.save()
                print(f"saved at step {self.step}. {self.validate()}", flush=True)
                saved_at = began = time.perf_counter()
                losses = []


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--dataset_root", required=True, help="LeRobot v3.0 PushT dataset")
    parser.add_argument("--output_dir", required=True, help="checkpoint/ is written in here")
    parser.add_argument("--episodes", default="0:185", help="first:end, end excluded")
    parser.add_argument("--validation_episodes", default="", help="taken out of the training")
    parser.add_argument("--steps", type=int, default=10000)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=6e-4)
    parser.add_argument("--warmup_steps", type=int, default=300)
    parser.add_argument("--decay_fraction", type=float, default=0.3)
    parser.add_argument("--weight_decay", type=float, default=0.05)
    parser.add_argument("--ema_decay", type=float, default=0.999)
    parser.add_argument("--mirror", type=float, default=0.5, help="probability")
    parser.add_argument("--affine", type=float, default=0.6, help="probability")
    parser.add_argument("--max_rotation", type=float, default=15.0, help="degrees")
    parser.add_argument("--max_shift", type=float, default=30.0, help="board units")
    parser.add_argument("--jitter", type=float, default=0.08)
    parser.add_argument("--pixel_noise", type=float, default=0.02)
    parser.add_argument("--state_noise", type=float, default=6.0, help="board units")
    parser.add_argument("--state_dropout", type=float, default=0.1, help="probability")
    parser.add_argument("--keypoint_weight", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--log_every", type=int, default=50)
    parser.add_argument("--save_minutes", type=float, default=8.0)
    parser.add_argument("--resume", action="store_true", help="continue from last.pt")
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--compile", action="store_true", help="torch.compile, about 15 %% faster")
    return parser.parse_args()


def main() -> None:
    """Train."""
    args = parse_args()
    torch.set_num_threads(args.threads)
    Trainer(args).run()


if __name__ == "__main__":
    main()
