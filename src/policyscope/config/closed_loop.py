"""What the commands over simulators are asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, final

from policyscope.config.executions import SWEEP, parse_sweep
from policyscope.config.options import (
    PolicyOptions,
    require_at_least,
    require_number_or_auto,
    require_one_of_resume_and_overwrite,
)
from policyscope.config.parsing import is_count, parse_until
from policyscope.config.parts import (
    DatasetConfig,
    Engine,
    EnvConfig,
    Language,
    PageConfig,
    RayConfig,
)
from policyscope.errors import UsageError


@final
@dataclass(frozen=True)
class RolloutConfig(PolicyOptions):
    """Closed loop: how often the policy succeeds in simulation, and how sure that is.

    policyscope rollout --policy.path outputs/train/pusht/checkpoints/last/pretrained_model
    --env.type pusht --n_episodes 50

    policyscope rollout --policy.type hold_state --env.type pusht --n_episodes 10 --video all

    policyscope rollout --policy.path DIR --env.type pusht --until 0.5 --n_episodes 200

    policyscope rollout --policy.path DIR --env.type pusht --sweep n_action_steps=8,1,4,16

    policyscope rollout --policy.path DIR --env.type libero --env.task libero_spatial
    --env.settings '{"observation_height": 256, "observation_width": 256}'
    """

    env: EnvConfig = field(default_factory=EnvConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    """Demonstrations to start from and to compare with; not needed otherwise."""
    output_dir: str | None = None
    """Run directory, or its address in an object store (s3://BUCKET/PATH). Default:
    outputs/policyscope/DATE_TIME_POLICY_ENV."""
    n_episodes: int = 50
    """Episodes, of each task; with --until the most of them."""
    until: tuple[str, ...] = ()
    """Stop early, looking after each episode: at 0.5 once the success rate is shown to lie above or
    below it, at width=0.2 once its interval is that narrow, or at either. The interval then is one
    that holds at all looks together, wider than Wilson's. One task only."""
    sweep: str | None = None
    """Run the same seeds with several numbers of steps of each chunk: n_action_steps=8,1,4,16. A
    run of each in output_dir, a table, and a curve of success; the others are compared with the
    first."""
    n_envs: str = "auto"
    """Simulators that run side by side, each in its own process: a number, or auto."""
    seed: int = 1000
    """Seed of the first episode; the next one has the next. As in lerobot-eval."""
    noise_seed: int = 0
    """Seed of the policy's noise."""
    batch_size: str = "auto"
    """Rows of a model call: a number, or auto. Calls are filled up to it where the policy's
    answer to a row would otherwise depend on how many rows there are."""
    init_from: Literal["seed", "dataset"] = "seed"
    """Where episodes start: from the environment's seeds, or where the demonstrations of
    --dataset start (PushT)."""
    nearest: bool = False
    """DTW and discrete Fréchet distance of each episode's path to the nearest demonstration of
    --dataset (extra: similarity)."""
    success: Literal["any", "end"] = "any"
    """When an episode counts as solved: if the environment says so at any step, as in lerobot-eval,
    or at its last one."""
    interval: Literal["wilson", "exact"] = "wilson"
    """95 % interval of the success rate: Wilson's, or the exact one of Clopper and Pearson."""
    video: str = "chosen"
    """Episodes to show: chosen (first success, first failure, worst), all, none, or a number."""
    record: str | None = None
    """Write the rollouts as a LeRobot v3.0 dataset into this new directory."""
    latency_calls: int = 64
    """Batch-1 control steps to time (59 support a p95, 299 a p99); 0 skips them."""
    report: PageConfig = field(default_factory=PageConfig)
    lang: Language = "en"
    """Language of page, picture and terminal; Chinese files (report.zh.html) stand beside English
    ones."""
    live: bool = False
    """Stream what the policy sees, its chunks and the running success rate to a Rerun viewer, and
    into live.rrd in the run directory (extra: policyscope[rerun])."""
    resume: bool = False
    """Continue the unfinished run in output_dir."""
    overwrite: bool = False
    """Replace the run in output_dir."""
    force: bool = False
    """Compute numbers in spite of findings of severity error; they are labelled everywhere."""
    engine: Engine = "local"
    """Where simulators run: in processes of this machine, or of Ray, here or on a cluster; the
    policy stays here, and the numbers are the same."""
    ray: RayConfig = field(default_factory=RayConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(
            ("--n_episodes", self.n_episodes, 1, 10**6),
            ("--latency_calls", self.latency_calls, 0),
            ("--seed", self.seed, 0, 2**32 - 1 - 10**6),
        )
        require_number_or_auto([("--batch_size", self.batch_size), ("--n_envs", self.n_envs)])
        require_one_of_resume_and_overwrite(resume=self.resume, overwrite=self.overwrite)
        self.ray.require(self.engine)
        if self.ray.workers is not None:
            raise UsageError(
                "--ray.workers",
                expected="--n_envs, which says how many simulators there are",
                found=str(self.ray.workers),
                fix=f"--n_envs {self.ray.workers}",
            )
        if self.report.episodes is not None:
            raise UsageError(
                f"--report.episodes {self.report.episodes}",
                expected="--video, which says whose pictures the page plays",
                found="--report.episodes",
                fix="--video all, or a number",
            )
        if self.video not in ("chosen", "all", "none") and not is_count(self.video):
            raise UsageError(
                "--video",
                expected="chosen, all, none, or a number",
                found=repr(self.video),
                fix="--video chosen",
            )
        if self.sweep is not None:
            parse_sweep(self.sweep)
            _require_alone(self)
        if parse_until(self.until) is not None and self.interval != "wilson":
            raise UsageError(
                f"--interval {self.interval}",
                expected="no choice of interval beside --until",
                found="both",
                fix="leave --interval out: the one that holds at every look is used",
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


def _require_alone(config: RolloutConfig) -> None:
    beside = {
        "--n_action_steps": config.n_action_steps is not None,
        "--record": config.record is not None,
        "--live": config.live,
        "--until": bool(config.until),  # runs of other lengths would not be paired
    }
    given = [flag for flag, there in beside.items() if there]
    if given:
        raise UsageError(
            SWEEP, expected=f"no {given[0]} beside it", found="both", fix=f"leave {given[0]} out"
        )


@final
@dataclass(frozen=True)
class CheckEnvConfig:
    """Does an environment keep the contract that closed-loop numbers rest on?

    policyscope check_env --env.type gym --env.task my_package:MyEnv-v0

    Exit status: 0 it does, warnings apart; 1 it does not, and rollout refuses it; 2 it can't be
    opened.
    """

    env: EnvConfig = field(default_factory=EnvConfig)
