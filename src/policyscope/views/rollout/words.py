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


def rate(known: Rate) -> str:
    """k/n with the rate and its interval."""
    if known.ci_low is None or known.ci_high is None:
        return "unknown"
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


def subject(record: RolloutRecord) -> str:
    """What ran where."""
    policy, env = record.policy, record.env
    if record.imported is not None:
        made = policy.type if policy.path == policy.type else f"{policy.type} ({tail(policy.path)})"
        made = "a policy that nobody names" if made == UNKNOWN else made
        where = "" if env.name == UNKNOWN else f" in {env.name}"
        source = tail(record.imported.source)
        return f"{made}{where}: {record.n_episodes} episodes, imported from {source}"
    seeds = record.dataset.episodes
    from_seed = f"seeds {seeds[0]}–{seeds[-1]}" if seeds else "no episodes"
    if env.init_from == "dataset":
        from_seed = f"starts of {len(seeds)} demonstrations"
    return (
        f"{who(policy)} in {env.name}: {record.n_episodes} episodes, {from_seed}, "
        f"{policy.n_action_steps} of {policy.chunk_size} steps a chunk"
    )


def headline(record: RolloutRecord) -> str:
    """The result in one line."""
    success = record.success
    names = {"wilson": "Wilson", "exact": "Clopper–Pearson", "anytime": "at every look"}
    method = names[success.method]
    macro = record.closed_loop.macro
    mean = (
        f"; mean of {macro.n_tasks} tasks {percent(macro.rate)} "
        f"[{100 * macro.ci_low:.0f}, {100 * macro.ci_high:.0f}]"
        if macro
        else ""
    )
    if not success.n:
        ran = record.closed_loop.ended.keys() - {"fault"}
        why = "nobody says" if record.imported else "the environment says nothing of it"
        why = why if ran else "no episode ran"
        return f"Success unknown: {why}"
    at = " at the last step" if record.env.success == "end" else ""
    return f"Success{at} {rate(success)} (95 % interval, {method}){mean}"


def detectable_line(record: RolloutRecord) -> str:
    """What difference this number of episodes could have shown, or why the run stopped."""
    if record.plan is not None and record.plan.until is not None:
        return stop_line(record)
    known, n = record.closed_loop.detectable, record.success.n
    if not known:
        return ""
    ends = [
        text
        for text in (
            f"at most {percent(known.lower)}" if known.lower is not None else "",
            f"at least {percent(known.higher)}" if known.higher is not None else "",
        )
        if text
    ]
    if not ends:
        return f"With {n} episodes no other policy could be told apart from this one."
    test = f"{known.test}'s test, " if known.test else ""
    return (
        f"With {n} episodes each, another policy would show as different ({test}"
        f"power {percent(known.power)}) if it succeeded in {' or '.join(ends)}."
    )


def stop_line(record: RolloutRecord) -> str:
    """Why a run that may stop early did, or did not."""
    plan, n = record.plan, record.n_episodes
    assert plan is not None, "asked for"
    assert plan.until is not None, "asked for"
    until = plan.until
    why = {
        "above": f"success is above {percent(until.rate)}",
        "below": f"success is below {percent(until.rate)}",
        "precise": f"the interval is at most {100 * (until.width or 0):g} points wide",
        None: "none of what --until asks for is shown",
    }[record.success.stopped]
    most = sum(len(seeds.seeds) for seeds in plan.episodes)
    how = "Stopped after" if record.success.stopped else "After all"
    return (
        f"{how} {n} of at most {most} episodes: {why}. "
        "Intervals of success and rewards hold at all looks together."
    )


def time_line(record: RolloutRecord) -> str:
    """When episodes succeed, and how the others end."""
    known, ended = record.closed_loop.time_to_success, record.closed_loop.ended
    names = {
        "success": "success",
        "time_limit": "time limit",
        "terminated": "terminated without success",
        "truncated": "truncated",
        "non_finite_action": "NaN or inf in an action",
        "fault": "simulator failed",
    }
    how = ", ".join(f"{names.get(key, key)} {n}" for key, n in ended.items())
    when = (
        f"Median time of {known.n_success} successes {number(known['median_s'])} s. "
        if known.median_s is not None
        else ""
    )
    if record.imported and ended.keys() <= {"unknown"}:
        return when
    return f"{when}Episodes ended by: {how}."


def motion_line(record: RolloutRecord) -> str:
    """Smoothness of the executed motion."""
    known = record.smoothness
    if record.imported and known.path.value is None:
        return ""
    near = record.nearest or []
    unit = " std" if known.unit else ""
    like = (
        " Median distance to the nearest demonstration's path: "
        f"DTW {number(median(row.dtw for row in near))} a step, "
        f"Fréchet {number(median(row.frechet for row in near))}."
        if near
        else ""
    )
    if record.imported and not known.n_seams:
        path, jerk = number(known.path.value), number(known.ldlj.value)
        return f"Executed motion: path {path}{unit}, log dimensionless jerk {jerk}."
    return (
        f"Executed motion: path {number(known.path.value)}{unit}, log dimensionless jerk "
        f"{number(known.ldlj.value)}; jump where chunks meet over a step within "
        f"{number(known.boundary_jump)}, disagreement of consecutive chunks "
        f"{number(known.overlap_disagreement)}.{like}"
    )


def throughput_line(record: RolloutRecord) -> str:
    """Speed of the run, and of a control step as a robot would meet it."""
    speed, latency = record.throughput, record.latency
    if speed is None or latency is None:
        return ""
    line = "Nothing was left to run."
    if speed.episodes_per_min:
        line = (
            f"{number(speed.episodes_per_min)} episodes/min with {speed.n_envs} simulators, "
            f"{number(speed.rows_per_call)} of them a model call on average; "
            f"{number(speed.wall_s)} s, of which {number(speed.model_s)} s policy."
        )
    call = latency.end_to_end
    if call:
        line += f" A control step with an empty queue takes {number(call.p50_ms)} ms (p50)"
        budget = latency.budget
        line += (
            f": {share(budget.sync_miss_rate, call.n)} miss the {number(budget.sync_ms)} ms of a "
            f"step at {budget.fps:g} Hz."
            if record.env.fps_known
            else "; nobody says how long a step lasts."
        )
    return line
