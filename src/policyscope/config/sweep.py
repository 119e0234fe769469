"""What `sweep` is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, final

import tyro

from policyscope.config.closed_loop import RolloutConfig
from policyscope.config.offline import EvalConfig, PredictionOptions
from policyscope.config.options import PolicyOptions, require_at_least, require_number_or_auto
from policyscope.config.parsing import require_between
from policyscope.config.parts import EnvConfig
from policyscope.errors import UsageError

NO_ENV = "none"
Tracker = Literal["none", "wandb", "mlflow", "trackio"]


@final
@dataclass(frozen=True)
class SweepConfig(PredictionOptions):
    """Many checkpoints of a training run on the same frames: error, skill and success over its
    steps, and which checkpoints cannot be told apart from the best.

    policyscope sweep 'outputs/train/x/checkpoints/*/pretrained_model'
    --dataset.repo_id you/data --output_dir sweep_x

    policyscope sweep outputs/train/x --dataset.repo_id you/data --output_dir sweep_x --follow
    --until_step 100000 --timeout 7200

    policyscope sweep outputs/train/x --dataset.repo_id you/data --output_dir sweep_x
    --env.type pusht --n_episodes 50

    The same command again goes on where it was stopped, and runs no finished checkpoint again.

    Exit status: 0 done; 1 done, and a checkpoint was refused or broken, or --until_step was not
    reached before --timeout; 2 bad usage or input; 130 interrupted: the same command goes on.
    """

    checkpoints: tyro.conf.Positional[tuple[str, ...]] = ()
    """Checkpoints: a pattern in quotes, their folders, or the folder of a training run."""
    output_dir: str | None = None
    """Directory of the sweep; give it, so that the same command goes on there. Default:
    outputs/policyscope/DATE_TIME_sweep."""
    env: EnvConfig = field(default_factory=lambda: EnvConfig(type=NO_ENV))
    n_episodes: int = 50
    """With --env.type: episodes in simulation, of each checkpoint and task."""
    n_envs: str = "auto"
    """With --env.type: simulators side by side, a number or auto."""
    env_seed: int = 1000
    """With --env.type: seed of the first episode; every checkpoint meets the same ones."""
    latency_calls: int = 0
    """Batch-1 control steps to time for each checkpoint; 0 skips them."""
    memory_gb: float = 4.0
    """Gigabytes of decoded pictures that are kept for the next checkpoint. Where all do not fit,
    the frames are walked through in parts, and each checkpoint is opened for each part."""
    follow: bool = False
    """Wait for new checkpoints while they are being trained; Ctrl-C ends with the page drawn."""
    poll: float = 10.0
    """With --follow: seconds between two looks."""
    until_step: int | None = None
    """With --follow: end when a checkpoint of this step or a later one is done."""
    timeout: float | None = None
    """With --follow: end when no new checkpoint has come for so many seconds."""
    tracker: Tracker = "none"
    """Also log the main numbers by training step (extras: policyscope[wandb], [mlflow],
    [trackio]); into files of the output directory, unless the tracker's own environment
    variables send them elsewhere."""
    tracker_project: str = "policyscope"
    """What the tracker calls the project."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(
            ("--latency_calls", self.latency_calls, 0),
            ("--until_step", self.until_step, 0),
            ("--n_episodes", self.n_episodes, 1, 10**6),
            ("--env_seed", self.env_seed, 0, 2**32 - 1 - 10**6),
        )
        require_number_or_auto([("--n_envs", self.n_envs)])
        require_between("--memory_gb", self.memory_gb, 0.0, 1e6, "4")
        require_between("--poll", self.poll, 0.0, 86_400, "10")
        if self.timeout is not None:
            require_between("--timeout", self.timeout, 0.0, 1e9, "7200")
        if not self.checkpoints or self.policy.named:
            raise UsageError(
                "policyscope sweep",
                expected="checkpoints as words, without --policy.path and its like",
                found=self.policy.name,
                fix="policyscope sweep 'outputs/train/x/checkpoints/*/pretrained_model' …",
            )
        given = [f"--{n}" for n in ("until_step", "timeout") if vars(self)[n] is not None]
        if given and not self.follow:
            raise UsageError(
                given[0], expected="--follow beside it", found="none", fix=f"--follow {given[0]} …"
            )

    @property
    def closed_loop(self) -> bool:
        """Whether checkpoints run in simulation, too."""
        return self.env.type != NO_ENV

    def offline(self, path: str, output_dir: str, batch_size: str) -> EvalConfig:
        """The evaluation of one checkpoint, as `eval` would be asked for it."""
        return EvalConfig(
            **{
                **_shared(self, PredictionOptions),
                "policy": replace(self.policy, path=path),
                "batch_size": batch_size,
            },
            output_dir=output_dir,
            latency_calls=self.latency_calls,
            resume=True,
        )

    def in_simulation(self, path: str, output_dir: str) -> RolloutConfig:
        """The closed-loop run of one checkpoint, as `rollout` would be asked for it."""
        return RolloutConfig(
            **{**_shared(self, PolicyOptions), "policy": replace(self.policy, path=path)},
            env=self.env,
            n_episodes=self.n_episodes,
            n_envs=self.n_envs,
            seed=self.env_seed,
            noise_seed=self.seed,
            latency_calls=self.latency_calls,
            output_dir=output_dir,
            lang=self.lang,
            force=self.force,
            resume=True,
            engine=self.engine,
            ray=replace(self.ray, workers=None, cpus=None),
        )


def _shared(config: SweepConfig, kind: type[PolicyOptions]) -> dict[str, Any]:
    """What a config of that kind holds, by name."""
    return {known.name: vars(config)[known.name] for known in fields(kind)}
