"""Groups of flags that several commands have."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

from policyscope.config.parsing import parse_settings, parse_task_ids, require_between
from policyscope.errors import UsageError

BUILT_IN = ("hold_state", "repeat_last", "dataset_mean", "replay", "zero")
OWN = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
"""A policy class of the user's: where it is imported from, and its name."""
_CLUSTER = re.compile(r"auto|(?!ray:)[\w.\[\]:-]+:\d{1,5}")
Device = Literal["auto", "cpu", "cuda", "mps"]
Language = Literal["en", "zh"]
Engine = Literal["local", "ray"]


@final
@dataclass(frozen=True)
class PolicyConfig:
    """Which policy to evaluate: a checkpoint or a built-in one."""

    path: str | None = None
    """Pretrained directory or hub repo id (config.json, model.safetensors, saved processors)."""
    type: str | None = None
    """Instead of a checkpoint a built-in policy (hold_state, repeat_last, dataset_mean, replay,
    zero), or a class of your own, which is imported: my_module:MyPolicy (docs/policies.md)."""
    url: str | None = None
    """A policy server instead of a checkpoint: ws://HOST:PORT or wss://… (openpi's protocol, and
    policyscope serve), zmq://HOST:PORT (GR00T's). Its key: POLICYSCOPE_API_KEY in the
    environment."""
    timeout_s: float = 300.0
    """An answer of the server that takes longer counts as lost."""
    patience_s: float = 60.0
    """How long to wait for a server that went away."""
    pictures: Literal["hwc", "chw"] = "hwc"
    """Axes of the pictures that an openpi server is sent, as bytes."""
    revision: str | None = None
    """Hub revision of the checkpoint."""
    base: str | None = None
    """Of an adapter (LoRA, extra: policyscope[peft]): the checkpoint that it was trained on, where
    the adapter does not name one on the hub."""
    chunk_size: int = 16
    """Horizon of a built-in policy; a checkpoint brings its own."""
    sampling: Literal["auto", "lerobot"] = "auto"
    """auto does what stays the same over one of SmolVLA's chunks once, where that gives lerobot's
    actions to float tolerance, and asks oneDNN for linear layers where PyTorch leaves a CPU's
    AVX-512 idle; lerobot takes its own code as it is."""

    def require(self) -> None:
        """Raise unless its type, if it has one, is a built-in policy or may be one's own.

        Raises:
            UsageError: it is neither.
        """
        if self.type is None or self.type in BUILT_IN or OWN.fullmatch(self.type):
            return
        near = difflib.get_close_matches(self.type, BUILT_IN, n=1, cutoff=0.5)
        raise UsageError(
            "--policy.type",
            expected=f"one of {', '.join(BUILT_IN)}, or my_module:MyPolicy",
            found=repr(self.type),
            fix=f"--policy.type {(near or BUILT_IN)[0]}",
        )

    @property
    def own(self) -> bool:
        """Whether it is a class of the user's."""
        return self.type is not None and self.type not in BUILT_IN

    @property
    def named(self) -> tuple[str, ...]:
        """What names a policy, of a checkpoint, a type and a server: one of them should."""
        return tuple(name for name in (self.path, self.type, self.url) if name is not None)

    @property
    def name(self) -> str:
        """What names the policy."""
        return next(iter(self.named), "none")


@final
@dataclass(frozen=True)
class DatasetConfig:
    """Which demonstrations to compare with."""

    repo_id: str | None = None
    """LeRobot dataset id, for example lerobot/pusht."""
    root: str | None = None
    """Directory of the dataset, or its address in an object store (s3://BUCKET/PATH); without it
    the local cache and the hub are asked."""
    episodes: str | None = None
    """Slices and lists of episode indices: 185:206 or 0,3,10:20. Default: the held-out split if
    the checkpoint records one, else all."""
    revision: str | None = None
    """Hub revision of the dataset."""
    video_backend: Literal["pyav", "torchcodec"] = "pyav"
    """Video decoder: pyav reads forwards and is the same everywhere; torchcodec is lerobot's own
    choice where a system FFmpeg lets it load."""
    actions: str | None = None
    """Action schema: a YAML or JSON file that says what each action dim is (docs/actions.md);
    policyscope schema writes a first draft. Public robots have one built in."""
    action_units: str | None = None
    """Unit of the action dims where the dataset does not say: one for all (px) or a list, one a
    dim (rad,rad,m)."""

    def require(self) -> None:
        """Raise unless a dataset is named.

        Raises:
            UsageError: none is.
        """
        if self.repo_id is None and self.root is None:
            raise UsageError(
                "--dataset.repo_id / --dataset.root",
                expected="a dataset",
                found="neither",
                fix="--dataset.repo_id lerobot/pusht, with --dataset.root DIR for a local copy",
            )

    @property
    def name(self) -> str:
        """The repo id, or the folder's name where only a root was given."""
        if self.repo_id is not None:
            return self.repo_id
        root = Path(self.root or ".")
        try:
            return root.resolve().name
        except (OSError, RuntimeError, ValueError):  # whoever opens it says what is wrong
            return root.name


@final
@dataclass(frozen=True)
class EnvConfig:
    """Which simulator to run in; lerobot's own factory makes it."""

    type: str = "pusht"
    """pusht, aloha, libero, metaworld, another type that lerobot registers, or gym for
    --env.task."""
    task: str | None = None
    """Task or suites: PushT-v0, AlohaInsertion-v0, AlohaTransferCube-v0, libero_spatial,...;
    with --env.type gym a gymnasium id, for example my_package:MyEnv-v0. Default: lerobot's."""
    task_ids: str | None = None
    """Tasks of a suite: 0,3,7. Default: all."""
    episode_length: int | None = None
    """Steps after which an episode ends. Default: lerobot's, or the environment's."""
    control_hz: float | None = None
    """Control steps a second, where the environment's metadata do not say."""
    task_text: str | None = None
    """The instruction that the policy reads. Default: the environment's."""
    settings: str | None = None
    """JSON: further fields of lerobot's environment config, for example '{"control_mode":
    "absolute"}' for libero, or arguments of the gymnasium environment. One that changes nothing is
    refused."""
    timeout_s: float = 300.0
    """A reset, or the steps of a chunk, that take longer count as hung: the simulator is killed,
    started again, and the episode run again."""

    def __post_init__(self) -> None:
        require_between("--env.timeout_s", self.timeout_s, 0.0, 1e6, "300")
        if self.control_hz is not None:
            require_between("--env.control_hz", self.control_hz, 0.0, 1e5, "20")
        if self.episode_length is not None:
            require_between("--env.episode_length", self.episode_length, 0, 1e9, "300")
        parse_settings(self.settings)
        parse_task_ids(self.task_ids)


@final
@dataclass(frozen=True)
class RayConfig:
    """Where --engine ray works (extra: policyscope[ray], docs/ray.md)."""

    address: str | None = None
    """HOST:PORT of a cluster that stands, or auto for the one on this machine; your own alone: who
    is in it runs code here. Default: Ray is started on this machine, and ended with the run."""
    workers: int | None = None
    """Processes that predict, each with a policy of its own. Default: one for each GPU, without
    any as many as find --ray.cpus."""
    cpus: int | None = None
    """CPUs of each worker: threads that decode and compute. Default: its share, without a GPU at
    most 4. Of rollout: of each simulator."""

    def require(self, engine: Engine) -> None:
        """Raise where it makes no sense, or nobody would look at it.

        Raises:
            UsageError: it does not.
        """
        for name, value in (("--ray.workers", self.workers), ("--ray.cpus", self.cpus)):
            if value is not None:
                require_between(name, value, 0.0, 10_000, "2")
        if self.address is not None and not _CLUSTER.fullmatch(self.address):
            raise UsageError(
                "--ray.address",
                expected="HOST:PORT of a cluster's head, or auto",
                found=repr(self.address),
                fix="--ray.address 10.0.0.1:6379",
            )
        if engine != "ray" and self != RayConfig():
            raise UsageError(
                "--ray.address, --ray.workers, --ray.cpus",
                expected="--engine ray beside them",
                found=f"--engine {engine}",
                fix="--engine ray",
            )


@final
@dataclass(frozen=True)
class PageConfig:
    """What the page shows."""

    episodes: str | None = None
    """Episodes whose pictures the page plays: slices and lists. Default: the worst, the median
    and the best."""
    formats: str = "png"
    """Files of the picture: png, svg, pdf, or several of them."""

    def __post_init__(self) -> None:
        self.endings()

    def endings(self) -> tuple[str, ...]:
        """Formats of the picture, each once.

        Raises:
            UsageError: another one, or none.
        """
        known = ("png", "svg", "pdf")
        asked = tuple(dict.fromkeys(part.strip() for part in self.formats.split(",")))
        if not set(asked) <= set(known):
            raise UsageError(
                f"--report.formats {self.formats}",
                expected=f"a list of {', '.join(known)}",
                found=", ".join(part or "nothing" for part in asked if part not in known),
                fix="--report.formats png,svg",
            )
        return asked
