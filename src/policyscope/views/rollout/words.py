"""A closed-loop run in words, shared by every place that shows it."""

from __future__ import annotations

from statistics import median

from policyscope.runs.content import RolloutRecord
from policyscope.runs.rows import RolloutRow
from policyscope.runs.values import Rate
from policyscope.views.language import Say, english
from policyscope.views.words import number, share, tail, who

UNKNOWN = "unknown"


def percent(value: float | None) -> str:
    """A share in per cent; a dash where there is none."""
    return "–" if value is None else f"{100 * value:.0f} %"


def rate(known: Rate, say: Say = english) -> str:
    """k/n with the rate and its interval."""
    if known.ci_low is None or known.ci_high is None:
        return say("unknown")
    return (
        f"{known.k}/{known.n}, {percent(known.rate)} "
        f"[{100 * known.ci_low:.0f}, {100 * known.ci_high:.0f}]"
    )


def outcome(row: RolloutRow) -> str:
    """How an episode ended: success, failure, or nobody knows."""
    return {True: "success", False: "failure", None: "unknown"}[row.success]


def called(row: RolloutRow, say: Say = english) -> str:
    """What to call an episode: by its seed, else by its place in the recording or the run."""
    if row.seed is not None:
        return say("seed {seed}", seed=row.seed)
    return say("episode {index}", index=row.episode if row.recorded is None else row.recorded)


def subject(record: RolloutRecord, say: Say = english) -> str:
    """What ran where."""
    policy, env = record.policy, record.env
    if record.imported is not None:
        made = policy.type if policy.path == policy.type else f"{policy.type} ({tail(policy.path)})"
        made = say("a policy that nobody names") if made == UNKNOWN else made
        words = {"made": made, "n": record.n_episodes, "source": tail(record.imported.source)}
        if env.name == UNKNOWN:
            return say("{made}: {n} episodes, imported from {source}", **words)
        return say("{made} in {env}: {n} episodes, imported from {source}", env=env.name, **words)
    return say(
        "{who} in {env}: {n} episodes, {starts}, {executed} of {chunk} steps a chunk",
        who=who(policy),
        env=env.name,
        n=record.n_episodes,
        starts=_starts(record, say),
        executed=policy.n_action_steps,
        chunk=policy.chunk_size,
    )


def _starts(record: RolloutRecord, say: Say) -> str:
    seeds = record.dataset.episodes
    if record.env.init_from == "dataset":
        return say("starts of {n} demonstrations", n=len(seeds))
    if not seeds:
        return say("no episodes")
    if len(seeds) == 1:
        return say("seed {seed}", seed=seeds[0])
    return say("seeds {first}–{last}", first=seeds[0], last=seeds[-1])


def headline(record: RolloutRecord, say: Say = english) -> str:
    """The result in one line."""
    success, macro = record.success, record.closed_loop.macro
    if not success.n:
        if not record.closed_loop.ended.keys() - {"fault"}:
            return say("Success unknown: no episode ran")
        if record.imported:
            return say("Success unknown: nobody says")
        return say("Success unknown: the environment says nothing of it")
    method = {
        "wilson": "Wilson",
        "exact": "Clopper–Pearson",
        "anytime": say("at every look"),
    }[success.method]
    words = {"rate": rate(success, say), "method": method}
    if record.env.success == "end":
        line = say("Success at the last step {rate} (95 % interval, {method})", **words)
    else:
        line = say("Success {rate} (95 % interval, {method})", **words)
    if macro is None:
        return line
    ends = f"[{100 * macro.ci_low:.0f}, {100 * macro.ci_high:.0f}]"
    return say(
        "{line}; mean of {n} tasks {rate} {ends}",
        line=line,
        n=macro.n_tasks,
        rate=percent(macro.rate),
        ends=ends,
    )


def detectable_line(record: RolloutRecord, say: Say = english) -> str:
    """What difference this number of episodes could have shown, or why the run stopped."""
    if record.plan is not None and record.plan.until is not None:
        return stop_line(record, say)
    known, n = record.closed_loop.detectable, record.success.n
    if not known:
        return ""
    ends = []
    if known.lower is not None:
        ends.append(say("at most {rate}", rate=percent(known.lower)))
    if known.higher is not None:
        ends.append(say("at least {rate}", rate=percent(known.higher)))
    if not ends:
        return say("With {n} episodes no other policy could be told apart from this one.", n=n)
    rates = ends[0] if len(ends) == 1 else say("{a} or {b}", a=ends[0], b=ends[1])
    words = {"n": n, "rates": rates, "power": percent(known.power)}
    if not known.test:
        return say(
            "With {n} episodes each, another policy would show as different (power {power}) if it "
            "succeeded in {rates}.",
            **words,
        )
    return say(
        "With {n} episodes each, another policy would show as different ({test}'s test, power "
        "{power}) if it succeeded in {rates}.",
        test=known.test,
        **words,
    )


def stop_line(record: RolloutRecord, say: Say = english) -> str:
    """Why a run that may stop early did, or did not."""
    plan, n = record.plan, record.n_episodes
    assert plan is not None, "asked for"
    assert plan.until is not None, "asked for"
    until, stopped = plan.until, record.success.stopped
    match stopped:
        case "above":
            why = say("success is above {rate}", rate=percent(until.rate))
        case "below":
            why = say("success is below {rate}", rate=percent(until.rate))
        case "precise":
            width = f"{100 * (until.width or 0):g}"
            why = say("the interval is at most {width} points wide", width=width)
        case _:
            why = say("none of what --until asks for is shown")
    words = {"n": n, "most": sum(len(seeds.seeds) for seeds in plan.episodes), "why": why}
    if stopped:
        line = say("Stopped after {n} of at most {most} episodes: {why}.", **words)
    else:
        line = say("After all {n} of at most {most} episodes: {why}.", **words)
    return f"{line} " + say("Intervals of success and rewards hold at all looks together.")


ENDS = {
    "success": "success",
    "time_limit": "time limit",
    "terminated": "terminated without success",
    "truncated": "truncated",
    "non_finite_action": "NaN or inf in an action",
    "fault": "simulator failed",
    "unknown": "unknown",
}


def ended_by(kind: str, say: Say = english) -> str:
    """How an episode ended, in words."""
    return say(ENDS[kind]) if kind in ENDS else kind


def time_line(record: RolloutRecord, say: Say = english) -> str:
    """When episodes succeed, and how the others end."""
    known, ended = record.closed_loop.time_to_success, record.closed_loop.ended
    how = ", ".join(f"{ended_by(key, say)} {n}" for key, n in ended.items())
    when = ""
    if known.median_s is not None:
        seconds = number(known.median_s)
        when = say("Median time of {n} successes {s} s.", n=known.n_success, s=seconds) + " "
    if record.imported and ended.keys() <= {UNKNOWN}:
        return when
    return when + say("Episodes ended by: {how}.", how=how)


def motion_line(record: RolloutRecord, say: Say = english) -> str:
    """Smoothness of the executed motion."""
    known = record.smoothness
    if record.imported and known.path.value is None:
        return ""
    near = record.nearest or []
    unit = f" {say('std')}" if known.unit else ""
    words = {"path": number(known.path.value) + unit, "jerk": number(known.ldlj.value)}
    if record.imported and not known.n_seams:
        return say("Executed motion: path {path}, log dimensionless jerk {jerk}.", **words)
    line = say(
        "Executed motion: path {path}, log dimensionless jerk {jerk}; jump where chunks meet over "
        "a step within {jump}, disagreement of consecutive chunks {apart}.",
        jump=number(known.boundary_jump),
        apart=number(known.overlap_disagreement),
        **words,
    )
    if not near:
        return line
    return f"{line} " + say(
        "Median distance to the nearest demonstration's path: DTW {dtw} a step, Fréchet {frechet}.",
        dtw=number(median(row.dtw for row in near)),
        frechet=number(median(row.frechet for row in near)),
    )


def throughput_line(record: RolloutRecord, say: Say = english) -> str:
    """Speed of the run, and of a control step as a robot would meet it."""
    speed, latency = record.throughput, record.latency
    if speed is None or latency is None:
        return ""
    line = say("Nothing was left to run.")
    if speed.episodes_per_min:
        line = say(
            "{rate} episodes/min with {n} simulators, {rows} of them a model call on average; "
            "{wall} s, of which {model} s policy.",
            rate=number(speed.episodes_per_min),
            n=speed.n_envs,
            rows=number(speed.rows_per_call),
            wall=number(speed.wall_s),
            model=number(speed.model_s),
        )
    call = latency.end_to_end
    if not call:
        return line
    budget = latency.budget
    took = {"ms": number(call.p50_ms)}
    if not record.env.fps_known:
        return f"{line} " + say(
            "A control step with an empty queue takes {ms} ms (p50); nobody says how long a step "
            "lasts.",
            **took,
        )
    return f"{line} " + say(
        "A control step with an empty queue takes {ms} ms (p50): {misses} miss the {step} ms of a "
        "step at {fps} Hz.",
        misses=share(budget.sync_miss_rate, call.n, say),
        step=number(budget.sync_ms),
        fps=f"{budget.fps:g}",
        **took,
    )
