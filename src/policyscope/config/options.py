"""What the commands that open a policy share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from policyscope.config.addresses import parse_url
from policyscope.config.parsing import is_positive_int, parse_rename_map, require_between
from policyscope.config.parts import DatasetConfig, Device, PolicyConfig
from policyscope.errors import UsageError


@dataclass(frozen=True)
class PolicyOptions:
    """Which policy, and how it is opened and fed."""

    policy: PolicyConfig = field(default_factory=PolicyConfig)
    rename_map: str | None = None
    """JSON, key of the dataset or the environment to policy key; a list feeds several policy
    cameras from one:
    '{"observation.image": ["observation.images.camera1", "observation.images.camera2"]}'.
    A server's keys are as in docs/remote.md."""
    n_action_steps: int | None = None
    """Steps that are run of each chunk. Default: the checkpoint's own."""
    device: Device = "auto"
    """Where the policy runs; auto takes cuda, then mps, then cpu."""

    def __post_init__(self) -> None:
        require_at_least(
            ("--n_action_steps", self.n_action_steps, 1, 10_000),
            ("--policy.chunk_size", self.policy.chunk_size, 1, 10_000),
        )
        parse_rename_map(self.rename_map)
        self.policy.require()
        if self.policy.url is not None:
            parse_url(self.policy.url)
        require_between("--policy.timeout_s", self.policy.timeout_s, 0.0, 1e5, "300")
        require_between("--policy.patience_s", self.policy.patience_s, 0.0, 1e5, "60")

    # What a command may make a flag of; without one, it is this.

    @property
    def action_dims(self) -> str | None:
        """Dims to compare where policy and data differ; None: they must not."""
        return None

    @property
    def action_kind(self) -> Literal["absolute", "delta"]:
        """What an action means."""
        return "absolute"

    @property
    def stats(self) -> Literal["checkpoint", "dataset"]:
        """Whose normalization statistics the policy's processors use."""
        return "checkpoint"

    @property
    def dtype(self) -> Literal["float32", "bfloat16"]:
        """In which the model runs."""
        return "float32"

    @property
    def compile(self) -> bool:
        """Whether the model is compiled."""
        return False

    @property
    def force(self) -> bool:
        """Whether findings of severity error are passed over, and said."""
        return False

    @property
    def noise_seed(self) -> int:
        """Seed of the policy's noise."""
        return 0


@dataclass(frozen=True)
class OfflineOptions(PolicyOptions):
    """A policy, and the demonstrations that it is asked about."""

    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    action_dims: str | None = None
    """Dims to compare where policy and dataset differ: indices or names, of whichever has more
    dims, in the order of the other one. Never guessed."""
    action_kind: Literal["absolute", "delta"] = "absolute"
    """What an action means, where no action schema says it of each dim; delta actions have a zero
    baseline instead of hold-state."""
    stats: Literal["checkpoint", "dataset"] = "checkpoint"
    """Whose normalization statistics the policy's processors use."""

    def __post_init__(self) -> None:
        if any(self.policy.named):
            require_one_policy(self.policy)
        self.dataset.require()
        super().__post_init__()

    @property
    def dataset_name(self) -> str:
        """See `DatasetConfig.name`."""
        return self.dataset.name


def require_one_policy(policy: PolicyConfig) -> None:
    """Raise unless a checkpoint, a server or a type of policy is named, and no other.

    Raises:
        UsageError: none, or several.
    """
    n = len(policy.named)
    if n != 1:
        raise UsageError(
            "--policy.path / --policy.type / --policy.url",
            expected="exactly one of them",
            found="neither" if not n else "several",
            fix="--policy.path DIR_OR_REPO_ID, or --policy.type hold_state",
        )


_MOST = 10**9


def require_at_least(
    *bounds: tuple[str, int | None, int] | tuple[str, int | None, int, int],
) -> None:
    """Raise where a flag's number lies below its least, or above what can be meant.

    Args:
        bounds: flag, number or None, least, and the most where that is not a billion.

    Raises:
        UsageError: one does; the message names it.
    """
    for name, value, least, *others in bounds:
        most = others[0] if others else _MOST
        if value is not None and value < least:
            raise UsageError(
                name, expected=f"at least {least}", found=str(value), fix=f"{name} {least}"
            )
        if value is not None and value > most:
            raise UsageError(
                name, expected=f"at most {most}", found=str(value)[:40], fix=f"{name} {most}"
            )


def require_number_or_auto(names: Iterable[tuple[str, str]]) -> None:
    """Raise where a flag is neither a number of at least 1 nor ``auto``: (flag, text).

    Raises:
        UsageError: one is; the message names it.
    """
    for name, text in names:
        if text != "auto" and not is_positive_int(text):
            raise UsageError(
                name,
                expected="a number of at least 1, or auto",
                found=repr(text),
                fix=f"{name} 4",
            )


def require_one_of_resume_and_overwrite(*, resume: bool, overwrite: bool) -> None:
    """Raise where both are asked for.

    Raises:
        UsageError: they contradict each other.
    """
    if resume and overwrite:
        raise UsageError(
            "--resume / --overwrite",
            expected="one of them",
            found="both",
            fix="--resume continues a run, --overwrite starts it again",
        )
