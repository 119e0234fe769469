"""What a run is asked to do: one frozen config feeds the flags, the Python API and the record.

Light on purpose: the command line imports this module and must answer ``--help`` at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, final

from policyscope.errors import UsageError
from policyscope.parsing import (
    is_positive_int,
    parse_rename_map,
    parse_settings,
    parse_task_ids,
)

BuiltinType = Literal["hold_state", "repeat_last", "dataset_mean", "replay", "zero"]
Language = Literal["en", "zh"]


@final
@dataclass(frozen=True)
class PolicyConfig:
    """Which policy to evaluate: a checkpoint or a built-in one."""

    path: str | None = None
    """Pretrained directory or hub repo id (config.json, model.safetensors, saved processors)."""
    type: BuiltinType | None = None
    """A built-in policy instead of a checkpoint."""
    revision: str | None = None
    """Hub revision of the checkpoint."""
    chunk_size: int = 16
    """Horizon of a built-in policy; a checkpoint brings its own."""
    sampling: Literal["auto", "lerobot"] = "auto"
    """How SmolVLA's chunks are sampled: auto does what stays the same over a chunk once, where that
    gives lerobot's actions to float tolerance; lerobot takes its own code."""


@final
@dataclass(frozen=True)
class DatasetConfig:
    """Which demonstrations to compare with."""

    repo_id: str | None = None
    """LeRobot dataset id, for example lerobot/pusht."""
    root: str | None = None
    """Local directory of the dataset; without it the local cache and the hub are asked."""
    episodes: str | None = None
    """Slices and lists of episode indices: 185:206 or 0,3,10:20. Default: the held-out split if
    the checkpoint records one, else all."""
    revision: str | None = None
    """Hub revision of the dataset."""
    video_backend: Literal["pyav", "torchcodec"] = "pyav"
    """Video decoder: pyav reads forwards and is the same everywhere; torchcodec is lerobot's own
    choice where a system FFmpeg lets it load."""
    action_units: str | None = None
    """Unit of the action dims where the dataset does not say: one for all (px) or a list, one a
    dim (rad,rad,m)."""


@final
@dataclass(frozen=True)
class PageConfig:
    """What the page shows."""

    episodes: str | None = None
    """Episodes whose pictures the page plays: slices and lists. Default: the worst, the median
    and the best."""


@final
@dataclass(frozen=True)
class EvalConfig:
    """Offline: predicted against demonstrated action chunks, in native units.

    policyscope eval --policy.path outputs/train/pusht/checkpoints/last/pretrained_model
    --dataset.repo_id lerobot/pusht --dataset.episodes 185:206 --output_dir out

    policyscope eval --policy.type hold_state --dataset.repo_id g1 --dataset.root data/g1
    """

    policy: PolicyConfig = field(default_factory=PolicyConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    output_dir: str | None = None
    """Run directory. Default: outputs/policyscope/<date>_<time>_<policy>."""
    max_frames: int | None = None
    """Stop after this many frames, taken in order from the chosen episodes."""
    stride: int = 1
    """Evaluate every n-th frame of an episode."""
    batch_size: str = "auto"
    """Frames a model call: a number, or auto, which looks for the best throughput."""
    samples: int = 1
    """Predictions a frame, for policies that start from noise."""
    seed: int = 0
    """Seed of all noise."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where the policy runs; auto takes cuda, then mps, then cpu."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 runs the model under autocast; the difference that it makes is measured."""
    compile: bool = False
    """Compile the model (torch.compile); the difference that it makes is measured."""
    n_action_steps: int | None = None
    """Steps a robot would run of each chunk. Default: the checkpoint's own."""
    rename_map: str | None = None
    """JSON, dataset key to policy key; a list feeds several policy cameras from one:
    '{"observation.image": ["observation.images.camera1", "observation.images.camera2"]}'."""
    action_dims: str | None = None
    """Dims to compare where policy and dataset differ: indices or names, of whichever has more
    dims, in the order of the other one. Never guessed."""
    action_kind: Literal["absolute", "delta"] = "absolute"
    """What an action means; delta actions have a zero baseline instead of hold-state."""
    stats: Literal["checkpoint", "dataset"] = "checkpoint"
    """Whose normalization statistics the policy's processors use."""
    latency_calls: int = 64
    """Batch-1 control steps to time (59 support a p95, 299 a p99); 0 skips them."""
    report: PageConfig = field(default_factory=PageConfig)
    lang: Language = "en"
    """Language of the page."""
    live: bool = False
    """Stream frames, actions, chunks and running errors to a Rerun viewer, and into live.rrd in
    the run directory (extra: policyscope[rerun])."""
    resume: bool = False
    """Continue the unfinished run in output_dir."""
    overwrite: bool = False
    """Replace the run in output_dir."""
    force: bool = False
    """Compute numbers in spite of findings of severity error; they are labelled everywhere."""

    def __post_init__(self) -> None:
        if (self.policy.path is None) == (self.policy.type is None):
            raise UsageError(
                "--policy.path / --policy.type",
                expected="exactly one of them",
                found="neither" if self.policy.path is None else "both",
                fix="--policy.path DIR_OR_REPO_ID, or --policy.type hold_state",
            )
        if self.dataset.repo_id is None and self.dataset.root is None:
            raise UsageError(
                "--dataset.repo_id / --dataset.root",
                expected="a dataset",
                found="neither",
                fix="--dataset.repo_id lerobot/pusht, with --dataset.root DIR for a local copy",
            )
        for name, value, least in (
            ("--samples", self.samples, 1),
            ("--max_frames", self.max_frames, 1),
            ("--stride", self.stride, 1),
            ("--n_action_steps", self.n_action_steps, 1),
            ("--policy.chunk_size", self.policy.chunk_size, 1),
            ("--latency_calls", self.latency_calls, 0),
        ):
            if value is not None and value < least:
                raise UsageError(
                    name, expected=f"at least {least}", found=str(value), fix=f"{name} {least}"
                )
        if self.batch_size != "auto" and not is_positive_int(self.batch_size):
            raise UsageError(
                "--batch_size",
                expected="a number of at least 1, or auto",
                found=repr(self.batch_size),
                fix="--batch_size 32",
            )
        if self.resume and self.overwrite:
            raise UsageError(
                "--resume / --overwrite",
                expected="one of them",
                found="both",
                fix="--resume continues a run, --overwrite starts it again",
            )
        parse_rename_map(self.rename_map)

    @property
    def dataset_name(self) -> str:
        """The dataset's repo id, or its folder's name where only a root was given."""
        if self.dataset.repo_id is not None:
            return self.dataset.repo_id
        return Path(self.dataset.root or ".").resolve().name


@final
@dataclass(frozen=True)
class BenchConfig:
    """Latency and throughput of a policy, by batch size, dtype and compilation.

    policyscope bench --policy.path DIR --dataset.repo_id lerobot/pusht --batch_sizes 1,8,32

    policyscope bench --policy.path DIR --dataset.repo_id lerobot/pusht --dtypes float32,bfloat16
    --compile --device cuda
    """

    policy: PolicyConfig = field(default_factory=PolicyConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    """Whose frames the policy is asked about."""
    output_dir: str | None = None
    """Where bench.json and bench.png go. Default: outputs/policyscope/bench_<date>_<time>."""
    batch_sizes: str = "1,2,4,8,16,32,64"
    """Frames a model call."""
    dtypes: str = "float32"
    """float32, bfloat16, or both."""
    compile: bool = False
    """Measure the compiled model beside the plain one."""
    calls: int = 64
    """Batch-1 control steps to time (59 support a p95, 299 a p99)."""
    repeats: int = 5
    """Calls a batch size, after two that do not count."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where the policy runs."""
    n_action_steps: int | None = None
    """Steps a robot would run of each chunk. Default: the checkpoint's own."""
    rename_map: str | None = None
    """JSON, dataset key to policy key, or to a list of policy keys."""
    action_dims: str | None = None
    """Dims to compare where policy and dataset differ: indices or names."""
    stats: Literal["checkpoint", "dataset"] = "checkpoint"
    """Whose normalization statistics the policy's processors use."""
    seed: int = 0
    """Seed of all noise."""

    def __post_init__(self) -> None:
        self.sizes()
        self.roads()
        if min(self.calls, self.repeats) < 1:
            raise UsageError(
                "--calls / --repeats",
                expected="at least 1",
                found=f"{self.calls} and {self.repeats}",
                fix="--calls 64 --repeats 5",
            )

    def sizes(self) -> tuple[int, ...]:
        """The batch sizes, rising.

        Raises:
            UsageError: not a list of numbers.
        """
        parts = [part.strip() for part in self.batch_sizes.split(",")]
        if not all(is_positive_int(part) for part in parts):
            raise UsageError(
                "--batch_sizes",
                expected="numbers of at least 1",
                found=repr(self.batch_sizes),
                fix="--batch_sizes 1,8,32",
            )
        return tuple(sorted({int(part) for part in parts}))

    def roads(self) -> tuple[EvalConfig, ...]:
        """An evaluation for each dtype, and for each compiled.

        Raises:
            UsageError: an unknown dtype, or no policy or dataset.
        """
        dtypes = tuple(dict.fromkeys(part.strip() for part in self.dtypes.split(",")))
        if not set(dtypes) <= {"float32", "bfloat16"}:
            raise UsageError(
                "--dtypes",
                expected="float32, bfloat16, or both",
                found=repr(self.dtypes),
                fix="--dtypes float32,bfloat16",
            )
        return tuple(
            EvalConfig(
                policy=self.policy,
                dataset=self.dataset,
                rename_map=self.rename_map,
                action_dims=self.action_dims,
                n_action_steps=self.n_action_steps,
                stats=self.stats,
                seed=self.seed,
                device=self.device,
                dtype="bfloat16" if dtype == "bfloat16" else "float32",
                compile=compiled,
            )
            for dtype in dtypes
            for compiled in ((False, True) if self.compile else (False,))
        )


@final
@dataclass(frozen=True)
class EnvConfig:
    """Which simulator to run in; lerobot's own factory makes it."""

    type: str = "pusht"
    """pusht, aloha, libero, another type that lerobot registers, or gym for --env.task."""
    task: str | None = None
    """Task or suites: PushT-v0, AlohaInsertion-v0, AlohaTransferCube-v0, libero_spatial,...;
    with --env.type gym a gymnasium id, for example my_package:MyEnv-v0. Default: lerobot's."""
    task_ids: str | None = None
    """Tasks of a suite: 0,3,7. Default: all."""
    episode_length: int | None = None
    """Steps after which an episode ends. Default: lerobot's."""
    task_text: str | None = None
    """The instruction that the policy reads. Default: the environment's."""
    settings: str | None = None
    """JSON: further fields of lerobot's environment config, or of the gymnasium environment:
    '{"observation_height": 256, "observation_width": 256}'."""
    timeout_s: float = 300.0
    """A reset, or the steps of a chunk, that take longer count as hung: the simulator is killed,
    started again, and the episode run again."""


@final
@dataclass(frozen=True)
class RolloutConfig:
    """Closed loop: how often the policy succeeds in simulation, and how sure that is.

    policyscope rollout --policy.path outputs/train/pusht/checkpoints/last/pretrained_model
    --env.type pusht --n_episodes 50

    policyscope rollout --policy.type hold_state --env.type pusht --n_episodes 10 --video all
    """

    policy: PolicyConfig = field(default_factory=PolicyConfig)
    env: EnvConfig = field(default_factory=EnvConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    """Demonstrations to start from and to compare with; not needed otherwise."""
    output_dir: str | None = None
    """Run directory. Default: outputs/policyscope/<date>_<time>_<policy>_<env>."""
    n_episodes: int = 50
    """Episodes, of each task."""
    n_envs: str = "auto"
    """Simulators that run side by side, each in its own process: a number, or auto."""
    seed: int = 1000
    """Seed of the first episode; the next one has the next. As in lerobot-eval."""
    noise_seed: int = 0
    """Seed of the policy's noise."""
    batch_size: str = "auto"
    """Rows of a model call: a number, or auto. Calls are filled up to it where the policy's
    answer to a row would otherwise depend on how many rows there are."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where the policy runs; auto takes cuda, then mps, then cpu."""
    n_action_steps: int | None = None
    """Steps run of each chunk. Default: the checkpoint's own."""
    rename_map: str | None = None
    """JSON, environment key to policy key, or to a list of policy keys."""
    init_from: Literal["seed", "dataset"] = "seed"
    """Where episodes start: from the environment's seeds, or where the demonstrations of
    --dataset start (PushT)."""
    nearest: bool = False
    """DTW and discrete Fréchet distance of each episode's path to the nearest demonstration of
    --dataset (extra: similarity)."""
    interval: Literal["wilson", "exact"] = "wilson"
    """95 % interval of the success rate: Wilson's, or the exact one of Clopper and Pearson."""
    video: str = "chosen"
    """Episodes to show: chosen (first success, first failure, worst), all, none, or a number."""
    record: str | None = None
    """Write the rollouts as a LeRobot v3.0 dataset into this new directory."""
    latency_calls: int = 64
    """Batch-1 control steps to time (59 support a p95, 299 a p99); 0 skips them."""
    lang: Language = "en"
    """Language of the page."""
    live: bool = False
    """Stream what the policy sees, its chunks and the running success rate to a Rerun viewer, and
    into live.rrd in the run directory (extra: policyscope[rerun])."""
    resume: bool = False
    """Continue the unfinished run in output_dir."""
    overwrite: bool = False
    """Replace the run in output_dir."""
    force: bool = False
    """Compute numbers in spite of findings of severity error; they are labelled everywhere."""

    def __post_init__(self) -> None:
        for name, value, least in (
            ("--n_episodes", self.n_episodes, 1),
            ("--n_action_steps", self.n_action_steps, 1),
            ("--env.episode_length", self.env.episode_length, 1),
            ("--policy.chunk_size", self.policy.chunk_size, 1),
            ("--latency_calls", self.latency_calls, 0),
            ("--seed", self.seed, 0),
        ):
            if value is not None and value < least:
                raise UsageError(
                    name, expected=f"at least {least}", found=str(value), fix=f"{name} {least}"
                )
        for name, text in (("--batch_size", self.batch_size), ("--n_envs", self.n_envs)):
            if text != "auto" and not is_positive_int(text):
                raise UsageError(
                    name,
                    expected="a number of at least 1, or auto",
                    found=repr(text),
                    fix=f"{name} 4",
                )
        if self.video not in ("chosen", "all", "none") and not self.video.isdigit():
            raise UsageError(
                "--video",
                expected="chosen, all, none, or a number",
                found=repr(self.video),
                fix="--video chosen",
            )
        if self.resume and self.overwrite:
            raise UsageError(
                "--resume / --overwrite",
                expected="one of them",
                found="both",
                fix="--resume continues a run, --overwrite starts it again",
            )
        asked = "--init_from dataset" if self.init_from == "dataset" else ""
        asked = asked or ("--nearest" if self.nearest else "")
        if asked and not (self.dataset.repo_id or self.dataset.root):
            raise UsageError(
                asked,
                expected="demonstrations",
                found="no --dataset",
                fix="--dataset.repo_id lerobot/pusht, with --dataset.root DIR for a local copy",
            )
        parse_rename_map(self.rename_map)
        parse_settings(self.env.settings)
        parse_task_ids(self.env.task_ids)
