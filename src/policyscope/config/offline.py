"""What the commands over demonstrations are asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, final

from policyscope.config.options import (
    OfflineOptions,
    require_at_least,
    require_number_or_auto,
    require_one_of_resume_and_overwrite,
)
from policyscope.config.parsing import is_positive_int, parse_duration
from policyscope.config.parts import DatasetConfig, Engine, Language, PageConfig, RayConfig
from policyscope.errors import UsageError


@dataclass(frozen=True)
class PredictionOptions(OfflineOptions):
    """Which frames a policy is asked about, and how its answers are drawn."""

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
    dtype: Literal["float32", "bfloat16"] = "float32"
    """bfloat16 runs the model under autocast; the difference that it makes is measured."""
    compile: bool = False
    """Compile the model (torch.compile); the difference that it makes is measured."""
    lang: Language = "en"
    """Language of page, picture and terminal; Chinese files (report.zh.html) stand beside English
    ones."""
    force: bool = False
    """Compute numbers in spite of findings of severity error; they are labelled everywhere."""
    engine: Engine = "local"
    """Who predicts: this process, or workers of Ray, on this machine or on a cluster; the numbers
    are the same, and each goes on where the other stopped."""
    ray: RayConfig = field(default_factory=RayConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.ray.require(self.engine)
        require_at_least(
            ("--samples", self.samples, 1, 10_000),
            ("--max_frames", self.max_frames, 1),
            ("--stride", self.stride, 1),
            ("--seed", self.seed, -(2**63), 2**63 - 1),
        )
        require_number_or_auto([("--batch_size", self.batch_size)])

    @property
    def noise_seed(self) -> int:
        """See `PolicyOptions.noise_seed`."""
        return self.seed


@final
@dataclass(frozen=True)
class EvalConfig(PredictionOptions):
    """Offline: predicted against demonstrated action chunks, in native units.

    policyscope eval --policy.path outputs/train/pusht/checkpoints/last/pretrained_model
    --dataset.repo_id lerobot/pusht --dataset.episodes 185:206 --output_dir out

    policyscope eval --policy.type hold_state --dataset.repo_id g1 --dataset.root data/g1

    policyscope eval --policy.url ws://127.0.0.1:8000 --dataset.repo_id lerobot/pusht

    policyscope eval --policy.path DIR --dataset.repo_id you/a --dataset.repo_id you/b
    """

    output_dir: str | None = None
    """Run directory, or its address in an object store (s3://BUCKET/PATH). Default:
    outputs/policyscope/DATE_TIME_POLICY."""
    time_budget: str | None = None
    """End within this time (90s, 10m, 1h30m), report included: frames are asked about in an order
    of which any beginning is spread over all episodes, so that the interval is as narrow as the
    time allows; --max_frames then takes the first of that order."""
    latency_calls: int = 64
    """Batch-1 control steps to time (59 support a p95, 299 a p99); 0 skips them."""
    ablate: bool = False
    """Ask again about some frames with each camera's picture, then the state, from another
    episode, then with another instruction: what changes is what the policy uses."""
    ablate_frames: int = 1024
    """How many frames --ablate asks about, spread over all episodes."""
    execute: str = "auto"
    """Ways to run the predicted chunks, measured without asking again: steps before the next chunk,
    and ensemble[:COEFFICIENT] for ACT's temporal ensemble: 1,8,16,ensemble. auto tries powers of
    two; none."""
    critical: str = "auto"
    """Frames that matter, whose errors stand beside those of all: gripper (half a second around its
    changes), slow (the slowest quarter of each episode's motion), column:NAME, or a JSON file of
    intervals. auto takes gripper, where one is known; none."""
    report: PageConfig = field(default_factory=PageConfig)
    live: bool = False
    """Stream frames, actions, chunks and running errors to a Rerun viewer, and into live.rrd in
    the run directory (extra: policyscope[rerun])."""
    resume: bool = False
    """Continue the unfinished run in output_dir."""
    overwrite: bool = False
    """Replace the run in output_dir."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(
            ("--latency_calls", self.latency_calls, 0),
            ("--ablate_frames", self.ablate_frames, 1),
        )
        require_one_of_resume_and_overwrite(resume=self.resume, overwrite=self.overwrite)
        _ = self.time_budget_s

    @property
    def time_budget_s(self) -> float | None:
        """Seconds that the command may take; None where it takes what it needs.

        Raises:
            UsageError: not a time.
        """
        text = self.time_budget
        return None if text is None else parse_duration(text, "--time_budget")


@final
@dataclass(frozen=True)
class CheckConfig(OfflineOptions):
    """Finds what would make the numbers meaningless, in seconds: in the files of policy and
    dataset, then in the predictions of a few hundred frames: are they better than doing nothing,
    and what do they depend on?

    policyscope check --policy.path DIR --dataset.repo_id lerobot/pusht --dataset.root DATA

    Without a policy the dataset itself is on trial: statistics, clocks, jumps, lag, copies, videos.

    policyscope check --dataset.repo_id lerobot/pusht --html dataset.html

    Exit status: 0 no findings but hints; 1 warnings or errors; 2 bad usage or input.
    """

    frames: int = 256
    """Frames to ask the policy about, spread over at most eight episodes; 0 reads files alone."""
    ablate: bool = True
    """Ask again about up to 96 of them with each camera's picture, then the state, from another
    episode, then with another instruction: is any of these ignored?"""
    json: bool = False
    """Print the findings as JSON."""
    html: str | None = None
    """Without a policy: also write a page that shows what was found, with a player."""
    lang: Language = "en"
    """Language of page, picture and terminal; Chinese files (report.zh.html) stand beside English
    ones."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(("--frames", self.frames, 0))
        if self.html is not None and not self.without_policy:
            raise UsageError(
                "--html",
                expected="a dataset without a policy, whose demonstrations the page shows",
                found="a policy",
                fix="policyscope eval writes the page of a policy",
            )

    @property
    def without_policy(self) -> bool:
        """Whether the dataset itself is on trial."""
        return not self.policy.named


@final
@dataclass(frozen=True)
class BenchConfig(OfflineOptions):
    """Latency and throughput of a policy, by batch size, dtype and compilation.

    policyscope bench --policy.path DIR --dataset.repo_id lerobot/pusht --batch_sizes 1,8,32

    policyscope bench --policy.path DIR --dataset.repo_id lerobot/pusht --dtypes float32,bfloat16
    --compile --device cuda
    """

    output_dir: str | None = None
    """Where bench.json and bench.png go. Default: outputs/policyscope/bench_DATE_TIME."""
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
    seed: int = 0
    """Seed of all noise."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.sizes()
        self.variants()
        require_at_least(("--calls", self.calls, 1), ("--repeats", self.repeats, 1))

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

    def variants(self) -> tuple[EvalConfig, ...]:
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
                action_kind=self.action_kind,
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
class SchemaConfig:
    """Writes a first draft of an action schema: what each action dim is, for --dataset.actions.

    policyscope schema --dataset.repo_id my/data --dataset.root DIR > actions.yaml
    """

    dataset: DatasetConfig = field(default_factory=DatasetConfig)

    def __post_init__(self) -> None:
        self.dataset.require()
