"""The ladder's policies: lerobot's own classes, small, on gym-pusht's keypoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lerobot.configs.types import FeatureType, NormalizationMode, PolicyFeature
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.diffusion.configuration_diffusion import DiffusionConfig
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from lerobot.policies.tdmpc.configuration_tdmpc import TDMPCConfig
from lerobot.policies.tdmpc.modeling_tdmpc import TDMPCPolicy
from torch import Tensor

STATE, KEYS, ACTION = "observation.state", "observation.environment_state", "action"
IMAGE = "observation.image"
HORIZON = 8  # steps of a chunk


def make_config(kind: str, normalization: str, width: int, pictures: bool = False) -> Any:
    """lerobot's configuration of one policy.

    Args:
        kind: ``act``, ``diffusion`` or ``tdmpc`` (its policy network alone, without planning).
        normalization: ``mean_std`` or ``min_max``, of observations and actions.
        width: of the network.
        pictures: instead of keypoints; for ``tdmpc``, whose encoder is small.
    """
    mode = NormalizationMode[normalization.upper()]
    inputs = {
        STATE: PolicyFeature(FeatureType.STATE, (2,)),
        KEYS: PolicyFeature(FeatureType.ENV, (16,)),
    }
    if pictures:
        if kind != "tdmpc":
            raise ValueError(f"--pictures: expected --type tdmpc; found {kind}")
        inputs = {
            IMAGE: PolicyFeature(FeatureType.VISUAL, (3, 96, 96)),
            STATE: PolicyFeature(FeatureType.STATE, (2,)),
        }
    shared: dict[str, Any] = {
        "input_features": inputs,
        "output_features": {ACTION: PolicyFeature(FeatureType.ACTION, (2,))},
        "normalization_mapping": {
            "STATE": mode,
            "ENV": mode,
            "ACTION": mode,
            "VISUAL": NormalizationMode.IDENTITY,
        },
        "device": "cpu",
        "push_to_hub": False,
        "n_obs_steps": 1,  # the expert has no memory either
    }
    if kind == "act":
        return ACTConfig(
            chunk_size=HORIZON,
            n_action_steps=2,
            dim_model=width,
            n_heads=4,
            dim_feedforward=4 * width,
            n_encoder_layers=4,
            use_vae=False,
            dropout=0.0,
            **shared,
        )
    if kind == "diffusion":
        return DiffusionConfig(
            horizon=HORIZON,
            n_action_steps=4,
            down_dims=(width, 2 * width),
            diffusion_step_embed_dim=64,
            kernel_size=3,
            noise_scheduler_type="DDIM",
            num_train_timesteps=50,
            num_inference_steps=5,
            prediction_type="sample",
            clip_sample_range=1.0 if normalization == "min_max" else 3.0,
            **shared,
        )
    return TDMPCConfig(
        use_mpc=False,
        n_action_repeats=1,
        latent_dim=width,
        mlp_dim=width,
        state_encoder_hidden_dim=width,
        q_ensemble_size=1,
        **shared,
    )


def make_policy(config: Any, stats: dict[str, dict[str, Tensor]]) -> tuple[Any, Any, Any]:
    """A policy with fresh weights and its two processors."""
    policy = get_policy_class(config.type)(config)
    before, after = make_pre_post_processors(config, dataset_stats=stats)
    return policy, before, after


def teach(policy: Any, checkpoint: Path) -> Any:
    """Begin a policy that looks with what one on keypoints knows; its encoder is the teacher."""
    teacher = TDMPCPolicy.from_pretrained(checkpoint).eval().requires_grad_(False)
    known = {k: v for k, v in teacher.state_dict().items() if k in policy.state_dict()}
    policy.load_state_dict(known, strict=False)
    return teacher.model._encoder.env_state_enc_layers


def loss(policy: Any, batch: dict[str, Tensor], teacher: Any = None) -> Tensor:
    """What the training lowers, of a normalized batch with chunks (B, HORIZON, 2).

    With a ``teacher``, also the distance from what it makes of the keypoints to what the policy
    makes of the picture.
    """
    batch = dict(batch)
    batch["action_is_pad"] = torch.zeros(batch[ACTION].shape[:2], dtype=torch.bool)
    if policy.name == "diffusion":
        batch[STATE], batch[KEYS] = batch[STATE][:, None], batch[KEYS][:, None]
    if policy.name == "tdmpc":  # its policy network alone: imitation, no reward, no planning
        seen = {key: batch[key] for key in policy.config.input_features}
        encoder = policy.model._encoder
        error = (policy.model.pi(encoder(seen)) - batch[ACTION][:, 0]).abs().mean()
        if teacher is None:
            return error
        looked = encoder.image_enc_layers(batch[IMAGE])
        return error + 10 * (looked - teacher(batch[KEYS])).square().mean()
    return policy.forward(batch)[0]


@torch.no_grad()
def answer(policy: Any, batch: dict[str, Tensor]) -> Tensor:
    """Normalized chunks (B, n, 2) for a normalized batch of observations."""
    seen = {key: batch[key] for key in policy.config.input_features}
    if policy.name == "tdmpc":
        return policy.model.pi(policy.model.encode(seen))[:, None]
    if policy.name == "diffusion":
        return policy.diffusion.generate_actions({k: v[:, None] for k, v in seen.items()})
    return policy.predict_action_chunk(seen)
