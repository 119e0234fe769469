"""What `policyscope serve` is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal, final

import tyro

from policyscope.config.options import PolicyOptions, require_at_least
from policyscope.config.parts import DatasetConfig, PolicyConfig
from policyscope.errors import UsageError


@final
@dataclass(frozen=True)
class ServeConfig(PolicyOptions):
    """Serve a checkpoint behind openpi's websocket protocol, to be asked with --policy.url.

    policyscope serve outputs/train/pusht/checkpoints/last/pretrained_model

    policyscope eval --policy.url ws://127.0.0.1:8000 --dataset.repo_id lerobot/pusht

    policyscope serve --policy.type my_module:MyPolicy --dataset.repo_id lerobot/pusht

    With POLICYSCOPE_API_KEY in the environment, whoever asks must have it, too.
    """

    checkpoint: tyro.conf.Positional[str | None] = None
    """Pretrained directory or hub repo id, as --policy.path."""
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    """For a class of your own: the data whose robot it is made for."""
    host: str = "127.0.0.1"
    """Address to listen at; 0.0.0.0 lets other machines ask."""
    port: int = 8000
    """TCP port; 0 takes a free one."""
    seed: int = 0
    """Seed of all noise; who asks must use the same."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 runs the model under autocast."""
    tls_cert: str | None = None
    """Certificate (PEM) for wss://, with --tls_key."""
    tls_key: str | None = None
    """Its private key (PEM)."""
    force: bool = False
    """Serve in spite of findings of severity error."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(
            ("--port", self.port, 0, 65535), ("--seed", self.seed, -(2**63), 2**63 - 1)
        )
        if (self.tls_cert is None) != (self.tls_key is None):
            raise UsageError(
                "--tls_cert / --tls_key",
                expected="both, or neither",
                found="one of them",
                fix="--tls_cert cert.pem --tls_key key.pem",
            )
        if not (self.asked.path or self.asked.own) or len(self.asked.named) > 1:
            raise UsageError(
                "policyscope serve",
                expected="a checkpoint, or --policy.type my_module:MyPolicy",
                found=" and ".join(self.asked.named) or "none",
                fix="policyscope serve DIR_OR_REPO_ID",
            )
        if self.asked.own:
            self.dataset.require()

    @property
    def asked(self) -> PolicyConfig:
        """The policy, by whichever word it is named."""
        if self.checkpoint is None:
            return self.policy
        return replace(self.policy, path=self.checkpoint)

    @property
    def noise_seed(self) -> int:
        """See `PolicyOptions.noise_seed`."""
        return self.seed
