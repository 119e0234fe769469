"""What was measured: errors and skill with their intervals, success, time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, final

from policyscope.runs.parts import Finite, Metric, Number, Part, Scope, Whole


@final
class Value(Part):
    """A number and its 95 % interval, whose unit of chance is the episode."""

    value: Number
    ci_low: Number
    """Lower end; null where no honest interval exists."""
    ci_high: Number
    n_episodes: Whole
    n_frames: Whole


class UnitErrors(Part):
    """Errors of the dims of one unit."""

    mae: Value
    mse: Value
    rmse: Value


class PooledErrors(UnitErrors):
    """Errors over dims: native ones where all share a unit, normalized ones where any varies."""

    nmae: Value
    nmse: Value

    def of(self, metric: Metric) -> Value:
        """One of them."""
        found: Value = getattr(self, metric)
        return found


@final
class MeanErrors(Part):
    """Unweighted means over episodes, or over tasks."""

    mae: Number
    mse: Number
    nmae: Number
    nmse: Number


@final
class MacroErrors(Part):
    """Means that count each group once, however long it is."""

    episode: MeanErrors
    task: MeanErrors


@final
class Errors(PooledErrors):
    """Errors of the policy, or of a baseline, over the steps of one scope."""

    by_unit: Mapping[str, UnitErrors]
    relative: Value
    """Over the error of doing nothing."""
    variance_ratio: Number
    """Squared error over the variance of the demonstrated actions."""
    macro: MacroErrors


@final
class Scopes(Part):
    """Errors by scope."""

    step1: Errors
    chunk: Errors
    executed: Errors

    def of(self, scope: Scope) -> Errors:
        """One of them."""
        found: Errors = getattr(self, scope)
        return found


@final
class Skill(Part):
    """1 - MSE/MSE of a baseline: 1 is perfect, 0 no better, below 0 worse."""

    step1: Value
    chunk: Value
    executed: Value
    by_horizon: Sequence[Number]

    def of(self, scope: Scope) -> Value:
        """One of them."""
        found: Value = getattr(self, scope)
        return found


Stand = Literal["better", "worse", "undecided", "no_interval", "undefined"]
"""What an interval of skill allows to say; undefined against a baseline that makes no error."""


@final
class Standing(Part):
    """What may be said of a policy, on the steps that a robot runs."""

    itself: str | None
    """The trivial baseline that was evaluated as a policy; null for any other."""
    strongest: str
    """The trivial baseline with the least squared error, itself left out."""
    trivial: Mapping[str, Stand]
    """Against each trivial baseline, the strongest first, itself left out."""
    blind: Mapping[str, Stand]
    """Against the strongest that learns from the state alone, and the strongest that is told the
    demonstrator's previous action, too."""
    better_from: Whole | None
    """First horizon step of the stretch on which it is better than every trivial baseline; null
    where none is shown. The stretch begins at step 1, or ends with the chunk."""
    better_to: Whole | None


@final
class TimeBudget(Part):
    """What a run saw in the time that it was given, and what that says of all frames.

    The tables of the record weigh each episode as if all of its frames had been seen.
    """

    seconds: Finite
    """That it was given."""
    n_frames: Whole
    of_frames: Whole
    """That the run over all frames of the chosen episodes has."""
    of_episodes: Whole
    unit: str
    """Of `all_frames`; ``std`` where the dims share none."""
    all_frames: Mapping[Scope, Value]
    """MAE over all of them: an interval of what was not seen, on these very episodes."""


Use = Literal["ignored", "needed", "harmful", "unclear"]
"""What the intervals let one say of an input: the prediction hardly changes without it, the error
grows, the error falls, or none of these is shown."""


@final
class AblatedInput(Part):
    """The same frames with one input replaced; distances are means in standard deviations."""

    key: str
    """Of the dataset; ``task`` for the instruction."""
    kind: Literal["camera", "state", "instruction"]
    replaced_by: Literal["another_episode", "another_task", "neutral_text"]
    text: str | None = None
    """The neutral text."""
    use: Use
    change: Value
    """Of the prediction."""
    error: Value
    """With the input replaced."""
    error_ratio: Value
    """To the error with the frame's own input, paired by episode."""


@final
class Ablation(Part):
    """What each input is worth, on some of the frames; chunks as a whole, the same noise."""

    n_frames: Whole
    n_episodes: Whole
    seed: int
    """Of the choice of other frames."""
    ignored_below: Finite
    """Change of the prediction below which an input counts as ignored."""
    error: Value
    """With the frames' own inputs, in standard deviations."""
    inputs: Sequence[AblatedInput]


@final
class WindowScores(Part):
    """Errors and skill at the frames that matter, by one account of which these are."""

    kind: Literal["gripper", "slow", "column", "file"]
    name: str
    """Of the column or the file; empty of the others."""
    n_frames: Whole
    """Evaluated frames in it."""
    share: Finite
    """Of all evaluated frames."""
    n_episodes: Whole
    """With any such frame."""
    summary: Scopes | None
    """None where no frame is in it; of chunks, the steps that fall on such frames."""
    skill: Mapping[str, Skill]
    """Against each trivial baseline."""


@final
class Similarity(Part):
    """Distances between predicted and demonstrated chunks, in `unit`: Euclidean where dims share
    one; in ``std`` the root of the mean square over dims."""

    unit: str
    ade: Value
    fde: Value
    path_length_ratio: Value


@final
class Seams(Part):
    """What happens where one chunk meets the next; distances in `unit`."""

    unit: str
    boundary_jump: Number
    """Mean jump between chunks over the median step within them."""
    boundary_jump_demo: Number
    overlap_disagreement: Number
    n_seams: Whole


@final
class SampleScores(Part):
    """Scores of K > 1 samples a frame, in units of the dataset's standard deviation."""

    k: Whole
    nmse_per_sample: Value
    nmse_of_sample_mean: Value
    energy_score: Value
    spread_skill: Number
    nmse_best_of_k_oracle: Value
    between_seed_sd: Number
    energy_score_each: Value | None = None
    """The energy score over √(steps · dims) of the frames: of one value, like the MAE in std."""
    spread: Value | None = None
    """Spread over skill with its interval: 1 where samples differ as much as their mean errs."""


# ── time ──────────────────────────────────────────────────────────────


@final
class Times(Part):
    """Milliseconds of one kind of call; a quantile is null where n does not support it."""

    n: Whole
    min_ms: Finite
    mean_ms: Finite
    p50_ms: Finite
    p90_ms: Number
    p95_ms: Number
    p99_ms: Number
    max_ms: Finite
    samples_ms: Sequence[Finite] = ()
    """Some of the calls, for pictures."""


@final
class Budget(Part):
    """Whether a robot would stall: one period for synchronous control, a chunk for asynchronous."""

    fps: Finite
    sync_ms: Finite
    async_ms: Finite
    sync_miss_rate: Number
    async_miss_rate: Number


@final
class Latency(Part):
    """Distributions that are never averaged together, at batch 1."""

    batch_size: Whole
    first_call_ms: Finite
    model_call: Times | None
    """The queue is empty and the network runs."""
    queue_pop: Times | None
    """The next action of a chunk."""
    end_to_end: Times | None
    """Observation in, action out."""
    budget: Budget
    network: Times | None = None
    """What of the end to end was the way to a server and back, where it says what it took."""


class Speed(Part):
    """Where the time of a run went."""

    frames_per_s: Number
    n_frames: Whole
    wall_s: Finite
    model_s: Finite
    data_s: Finite
    batch_size: Whole


@final
class RolloutSpeed(Speed):
    """Where the time of a closed-loop run went; `data_s` waited for simulators."""

    episodes_per_min: Number
    n_episodes: Whole
    n_envs: Whole
    filled_up: bool
    n_calls: Whole
    rows_per_call: Number


# ── closed loop ───────────────────────────────────────────────────────


class Rate(Part):
    """k successes in n episodes, with the 95 % interval of their rate."""

    k: Whole
    n: Whole
    rate: Number
    ci_low: Number
    ci_high: Number


@final
class Success(Rate):
    """The success rate of a run."""

    method: Literal["wilson", "exact", "anytime"]
    """Of the interval; ``anytime`` holds at all looks of a run that may stop early, together."""
    stopped: Literal["above", "below", "precise"] | None = None
    """Why the run stopped before its last episode, where ``--until`` let it; null if not."""


@final
class Curve(Part):
    """The share of episodes that has succeeded by a time, with its 95 % interval."""

    time_s: Sequence[Finite]
    share: Sequence[Finite]
    low: Sequence[Finite]
    high: Sequence[Finite]


@final
class TimeToSuccess(Part):
    """When episodes succeed."""

    n: Whole
    n_success: Whole
    median_s: Number
    """Among these."""
    curve: Curve


@final
class Detectable(Part):
    """Rates at which another run of as many episodes would show as different."""

    higher: Number
    lower: Number
    test: str | None = None
    power: Number = None


@final
class MacroRate(Part):
    """Mean of the success rates of the tasks."""

    rate: Finite
    ci_low: Finite
    ci_high: Finite
    n_tasks: Whole


@final
class ClosedLoop(Part):
    """Rewards and ends of a run's episodes."""

    max_reward: Value
    sum_reward: Value
    max_coverage: Value
    time_to_success: TimeToSuccess
    detectable: Detectable | None
    macro: MacroRate | None
    ended: Mapping[str, Whole]
    faults: Mapping[str, Whole]


@final
class MotionSummary(Part):
    """How the robot moved over all episodes."""

    unit: Literal["std"] | None = None
    """``std``, of the run's own states and actions, by dim, where dims share no unit: then norms
    are of one dim. Null where they are as the simulator has them."""
    path: Value
    jerk_rms: Value
    ldlj: Value
    boundary_jump: Number
    overlap_disagreement: Number
    n_seams: Whole
