"""How the robot moves in the recordings: rests, jumps, frames that are there twice, limits, lag."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from policyscope.actions.spaces import FloatArray
from policyscope.checks.trial.looks import Lag, Look, Recordings, leaving_out, named, some
from policyscope.errors import Finding
from policyscope.metrics.recordings import Jump, jumps, lag_curve, repeated, rests

_FEW_EPISODES = 0.2  # a dim that rests in so few of them rests by mistake
_ALWAYS, _OFTEN = 0.95, 0.25  # of the frames at one end
_SAME = 0.95  # of the frames
_EQUAL = 1e-6  # of the range
_CLEAR = 0.5  # correlation of steps
_BETTER = 0.05  # of an early state over any late one
_LATE_S = 0.6
_OWN_LAG = 3  # frames between an episode's lag and that of most
_LAGS_S = 1.0
_MOST_LAG = 30


def look_at_rest(known: Recordings) -> Look:
    """Dims that never move, and those that rest in a few episodes alone."""
    findings, episodes = [], set[int]()
    for what, names, values, _ in known.groups:
        still = rests(values)
        never = still.all(axis=0)
        if never.any():
            dims = [names[d] for d in np.flatnonzero(never)]
            findings.append(
                Finding(
                    "dims_rest",
                    "info",
                    f"expected {what} dims that move; found {len(dims)} of {len(names)} that keep "
                    f"one value in all episodes ({named(dims)}).",
                    "nothing, if that joint was not used; a policy learns nothing about it",
                )
            )
        share = still.mean(axis=0)
        off = still[:, (share > 0) & (share <= _FEW_EPISODES)]
        if off.any():
            where = [known.number(int(e)) for e in np.flatnonzero(off.any(axis=1))]
            dims = [names[d] for d in np.flatnonzero((share > 0) & (share <= _FEW_EPISODES))]
            episodes |= set(where)
            findings.append(
                Finding(
                    f"{what}_frozen",
                    "warning",
                    f"expected {what} dims that move in most episodes to move in all; found "
                    f"{named(dims)} at one value throughout episodes {some(where)}. Suspect: a "
                    "sensor or a motor that stood still.",
                    leaving_out(where),
                )
            )
    return Look(
        "resting dims",
        "{n} action and {m} state dims, episode by episode",
        {"n": len(known.extent.low), "m": _state_dims(known)},
        tuple(findings),
        episodes=tuple(sorted(episodes)),
    )


def look_at_jumps(known: Recordings) -> tuple[Look, list[Jump]]:
    """Frames to which no motion leads; the jumps are those of the actions."""
    findings, episodes, of_actions = [], set[int](), list[Jump]()
    for what, names, values, extent in known.groups:
        found = jumps(values, extent)
        of_actions = of_actions or (found if what == "action" else [])
        for kinds, code, words, fix in (
            (("spike", "jump"), "jumps", "steps that other frames lead to", ""),
            (
                ("turn",),
                "wraps",
                "angles that go on where a turn is full",
                "unwrap the angle in the recording, or record its sine and cosine: a policy "
                "averages both sides of the jump",
            ),
        ):
            those = [jump for jump in found if jump.kind in kinds]
            if not those:
                continue
            where = {known.number(jump.episode) for jump in those}
            episodes |= where
            worst = max(those, key=lambda j: j.size / max(extent.size[j.dim], 1e-300))
            findings.append(
                Finding(
                    f"{what}_{code}",
                    "warning",
                    f"expected {what} {words}; found {len(those)} frames in {len(where)} episodes "
                    f"that jump, the most by {worst.size:.3g} in {names[worst.dim]} at frame "
                    f"{worst.frame} of episode {known.number(worst.episode)}, where 99 % of the "
                    f"steps are below {extent.step[worst.dim]:.3g}.",
                    fix or leaving_out(where),
                )
            )
    largest = float(np.max(_over(known.extent.step, known.extent.size)))
    look = Look(
        "jumps",
        "99 % of the steps are below {share} of a dim's range",
        {"share": f"{100 * largest:.1f} %"},
        tuple(findings),
        episodes=tuple(sorted(episodes)),
    )
    return look, of_actions


def look_at_repeats(known: Recordings) -> Look:
    """Frames that are there twice, under two numbers."""
    found: dict[int, list[int]] = {}
    scale = known.extent.std
    if known.state_extent is not None:
        scale = np.concatenate([scale, known.state_extent.std])
    for place, episode in enumerate(known.episodes):
        parts = [episode.actions.values, *([] if episode.state is None else [episode.state])]
        frames = repeated(np.concatenate(parts, axis=1), scale)
        if len(frames):
            found[known.number(place)] = frames.tolist()
    n = sum(map(len, found.values()))
    findings: tuple[Finding, ...] = ()
    if found:
        first = min(found)
        findings = (
            Finding(
                "frames_repeated",
                "warning",
                f"expected frames that differ while the robot moves; found {n} in {len(found)} "
                "episodes that equal the frame before in all of action and state, first at frame "
                f"{found[first][0]} of episode {first}. Suspect: a recorder that fell behind.",
                leaving_out(found),
            ),
        )
    return Look(
        "repeated frames",
        "{n} of {frames} frames equal the one before while the robot moves",
        {"n": n, "frames": known.n_frames},
        findings,
        episodes=tuple(sorted(found)),
    )


def look_at_limits(known: Recordings) -> Look:
    """Actions that stay at one end of their range; grippers that never change."""
    actions, extent = known.source.facts.robot.actions, known.extent
    grippers = {d for m in actions.meanings if m.kind == "gripper" for d in m.dims}
    stuck, often = [], []
    most = np.maximum(extent.at_low, extent.at_high)
    for dim, name in enumerate(actions.labels):
        if extent.size[dim] <= 0:
            continue  # it rests, which is said
        end = extent.high[dim] if extent.at_high[dim] >= extent.at_low[dim] else extent.low[dim]
        gripper = dim in grippers or "grip" in name.lower()
        text = f"{name} at {end:.3g} in {100 * most[dim]:.0f} %"
        if most[dim] >= _ALWAYS:
            stuck.append(text)
        elif most[dim] >= _OFTEN and not gripper and not extent.switches[dim]:
            often.append(text)
    findings = []
    if stuck:
        findings.append(
            Finding(
                "actions_saturated",
                "warning",
                "expected action dims and grippers that use their range; found "
                f"{named(stuck)} of all frames. A policy that always says so is hardly wrong.",
                "record episodes in which it changes, or calibrate its ends",
            )
        )
    if often:
        findings.append(
            Finding(
                "actions_at_limits",
                "info",
                f"expected actions inside their range; found {named(often)} of all frames: cut "
                "off, or against a stop.",
                "nothing, if that is where the robot's limit is",
            )
        )
    at = int(most.argmax())
    return Look(
        "limits",
        "most often {name}: {share} of the frames at one end",
        {"name": actions.labels[at], "share": f"{100 * most[at]:.0f} %"},
        tuple(findings),
    )


def look_at_lag(known: Recordings) -> tuple[Look, Lag | None]:
    """Whether the state follows the action, and after how long."""
    title = "lag"
    robot = known.source.facts.robot
    if not known.state or known.state[0].shape[1] != len(known.extent.low):
        said = "{n} action and {m} state dims can't be held against each other"
        values = {"n": len(known.extent.low), "m": _state_dims(known)}
        return Look(title, said, values, there=False), None
    if robot.actions.kind == "delta":
        return Look(title, "actions are displacements", there=False), None
    equal = _equal(known)
    if equal is not None:
        return equal, None
    reach = int(min(_MOST_LAG, max(2, round(_LAGS_S * robot.fps))))
    lags = np.arange(-reach // 2, reach + 1)
    curve = lag_curve(known.actions, known.state, lags.tolist())
    lag = Lag(lags, curve, robot.actions.labels)
    at = _best(curve, lags)
    if at is None:
        said = "the state's steps follow those of no action dim: no lag can be told"
        return Look(title, said, there=False), lag
    findings = _of_all(at, curve, lags, robot.fps)
    off = _own_lags(known, lags, at)
    if off and not findings:
        findings = [
            Finding(
                "lag_differs",
                "warning",
                f"expected the state {at} frames behind the action, as in most episodes; found "
                + ", ".join(f"{own} in episode {e}" for e, own in list(off.items())[:4])
                + ". Suspect: streams that were put together wrongly.",
                leaving_out(off),
            )
        ]
    look = Look(
        title,
        "the state is {n} frames behind the action, {s} s",
        {"n": at, "s": f"{at / robot.fps:.2g}"},
        tuple(findings),
        episodes=tuple(sorted(off)),
    )
    return look, lag


def _of_all(at: int, curve: FloatArray, lags: NDArray[np.int64], fps: float) -> list[Finding]:
    if at < 0:
        clear = np.nanmax(curve, axis=0) >= _CLEAR
        early = float(np.nanmean(curve[:, clear], axis=1)[lags == at][0])
        late = float(np.nanmean(curve[lags >= 0][:, clear], axis=1).max())
        if early - late < _BETTER:
            return []
        found, why = (
            f"{-at} frames ahead of it (correlation of steps {early:.2f}; {late:.2f} at best where "
            "it follows)",
            "actions that were recorded late, or moved by some rows",
        )
    elif at / fps > _LATE_S:
        found = f"{at} frames behind it, {at / fps:.2g} s"
        why = "actions that were recorded early, or moved by some rows"
    else:
        return []
    return [
        Finding(
            "state_leads" if at < 0 else "state_lags",
            "warning",
            f"expected the state to follow the action within {_LATE_S} s; found it {found}. "
            f"Suspect: {why}.",
            "shift the action column against the state, by episode, and compute the statistics "
            "again",
        )
    ]


def _equal(known: Recordings) -> Look | None:
    """A dataset whose actions are its states, of the same frame or of the next."""
    near = _EQUAL * np.maximum(known.extent.size, 1e-12)
    pairs = list(zip(known.actions, known.state, strict=True))
    same = np.concatenate([(np.abs(a - s) <= near).all(axis=1) for a, s in pairs])
    ahead = np.concatenate([(np.abs(a[:-1] - s[1:]) <= near).all(axis=1) for a, s in pairs])
    if same.mean() >= _SAME and not rests(known.actions).all():
        return Look(
            "lag",
            "actions are the state of the same frame",
            findings=(
                Finding(
                    "action_is_state",
                    "warning",
                    "expected actions that lead the state somewhere; found the state of the same "
                    f"frame in {100 * same.mean():.0f} % of the frames. A policy that repeats what "
                    "it sees would be right everywhere, and never move.",
                    "take the commands as actions, or the state of the next frame",
                ),
            ),
        )
    if len(ahead) and ahead.mean() >= _SAME:
        return Look("lag", "actions are the state of the next frame")
    return None


def _best(curve: FloatArray, lags: NDArray[np.int64]) -> int | None:
    """The lag at which most dims that have one agree best."""
    clear = np.nan_to_num(curve, nan=-1.0).max(axis=0) >= _CLEAR
    if not clear.any():
        return None
    return int(lags[curve[:, clear].mean(axis=1).argmax()])


def _own_lags(known: Recordings, lags: NDArray[np.int64], usual: int) -> dict[int, int]:
    """Episode index → its own lag, where that is another."""
    off = {}
    for place, (asked, reached) in enumerate(zip(known.actions, known.state, strict=True)):
        if len(asked) < 3 * len(lags):
            continue  # too short to tell
        curve = lag_curve([asked], [reached], lags.tolist())
        own = _best(curve, lags)
        if own is None or abs(own - usual) <= _OWN_LAG:
            continue
        clear = np.nan_to_num(curve, nan=-1.0).max(axis=0) >= _CLEAR
        means = curve[:, clear].mean(axis=1)
        if means.max() - means[lags == usual][0] > 2 * _BETTER:
            off[known.number(place)] = own
    return off


def _over(part: FloatArray, whole: FloatArray) -> FloatArray:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _state_dims(known: Recordings) -> int:
    return known.state[0].shape[1] if known.state else 0
