"""How a policy's inputs and outputs meet a robot's: decided once, never guessed."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass, field
from typing import Literal, final

from policyscope.actions.robots import Robot
from policyscope.actions.spaces import ActionSchema
from policyscope.config import PolicyOptions
from policyscope.config.parsing import is_count, parse_rename_map
from policyscope.data.facts import STATE
from policyscope.errors import Finding, UsageError
from policyscope.policies.checkpoint import Checkpoint


@final
@dataclass(frozen=True)
class Alignment:
    """Which dims are compared, and which key of the robot's feeds which policy key.

    Attributes:
        policy_dims: dims of the policy's output, in the order they are compared.
        dataset_dims: dims of the robot's action, in the same order.
        schema: names and units of the compared dims.
        feeds: key given to the policy's preprocessor → key of the robot's that it comes from.
        findings: what does not fit.
        action_kind: what an action means, by the user or by what is known of the dims.
    """

    policy_dims: tuple[int, ...]
    dataset_dims: tuple[int, ...]
    schema: ActionSchema
    feeds: dict[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    action_kind: Literal["absolute", "delta"] = "absolute"


def align(
    checkpoint: Checkpoint | None,
    robot: Robot,
    config: PolicyOptions,
    *,
    action_dim: int | None = None,
) -> Alignment:
    """Match a policy with a robot.

    Args:
        checkpoint: None for a built-in policy, whose action is the robot's.
        robot: as a dataset recorded it, or a simulator plays it.
        config: ``--action_dims`` and ``--rename_map``.
        action_dim: of a policy without a checkpoint; None where it is the robot's.

    Raises:
        UsageError: ``--action_dims`` or ``--rename_map`` name what isn't there.
    """
    findings: list[Finding] = []
    n_policy = robot.actions.dim if action_dim is None else action_dim
    n_policy = n_policy if checkpoint is None else checkpoint.action_dim
    policy_names = tuple(checkpoint.settings.action_feature_names or ()) if checkpoint else ()
    policy_dims, dataset_dims = _action_dims(
        n_policy, policy_names, robot, config.action_dims, findings
    )
    feeds: dict[str, str] = {}
    if checkpoint is not None:
        feeds = _feeds(checkpoint, robot, parse_rename_map(config.rename_map), findings)
        _check_state(checkpoint, robot, findings)
        if len(policy_names) == n_policy:
            _check_names(
                [policy_names[d] for d in policy_dims],
                [robot.actions.names[d] for d in dataset_dims],
                findings,
            )
    schema = robot.actions.select(dataset_dims)
    if config.action_kind == "delta":
        schema = schema.displaced()
    kind = "delta" if config.action_kind == "delta" else schema.kind
    return Alignment(policy_dims, dataset_dims, schema, feeds, tuple(findings), kind)


def _action_dims(
    n_policy: int,
    policy_names: tuple[str, ...],
    robot: Robot,
    wanted: str | None,
    findings: list[Finding],
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    n_dataset = robot.actions.dim
    if wanted is None:
        if n_policy != n_dataset:
            fewer, more = sorted((n_policy, n_dataset))
            findings.append(
                Finding(
                    "action_dim_mismatch",
                    "error",
                    f"expected as many action dims as the {robot.kind} has ({n_dataset}: "
                    f"{', '.join(robot.actions.names[:8])}{', ...' if n_dataset > 8 else ''}); "
                    f"found a policy with {n_policy}. Comparing the first {fewer} in silence would "
                    "give a number without meaning.",
                    f"--action_dims with the {fewer} of {more} dims that mean the same, or a "
                    "checkpoint trained on this robot",
                    forceable=False,
                )
            )
        every = tuple(range(min(n_policy, n_dataset)))
        return every, every
    known = robot.actions.names
    if len(policy_names) == n_policy == n_dataset and all(
        part.strip() in known and part.strip() in policy_names for part in wanted.split(",")
    ):  # both sides have names: each dim is found by its name on either side
        return (
            _parse_dims(wanted, policy_names, n_policy),
            _parse_dims(wanted, known, n_dataset),
        )
    wider = known if n_dataset >= n_policy else policy_names
    dims = _parse_dims(wanted, wider, max(n_policy, n_dataset))
    if n_policy != n_dataset and len(dims) != min(n_policy, n_dataset):
        raise UsageError(
            "--action_dims",
            expected=f"{min(n_policy, n_dataset)} dims (policy {n_policy}, {robot.kind} "
            f"{n_dataset})",
            found=f"{len(dims)}: {wanted!r}",
            fix="name as many dims as the smaller of the two has, in its order",
        )
    other = dims if n_policy == n_dataset else tuple(range(len(dims)))
    return (dims, other) if n_policy >= n_dataset else (other, dims)


def _parse_dims(text: str, names: tuple[str, ...], n: int) -> tuple[int, ...]:
    dims = []
    for part in (p.strip() for p in text.strip("[] ").split(",")):
        if part in names:
            dims.append(names.index(part))
        elif is_count(part) and int(part) < n:
            dims.append(int(part))
        else:
            raise UsageError(
                "--action_dims",
                expected=f"indices from 0 to {n - 1}, or names ({', '.join(names)})",
                found=repr(part),
                fix="--action_dims 0,1",
            )
    if len(set(dims)) != len(dims):
        raise UsageError(
            "--action_dims", expected="each dim once", found=text, fix="leave the repetition out"
        )
    return tuple(dims)


def _feeds(
    checkpoint: Checkpoint,
    robot: Robot,
    renames: dict[str, tuple[str, ...]],
    findings: list[Finding],
) -> dict[str, str]:
    for key in renames:
        if key not in robot.features:
            raise UsageError(
                "--rename_map",
                expected=f"{robot.kind} keys ({', '.join(robot.observed)})",
                found=key,
                fix=f"name a key that the {robot.kind} has on the left, the policy's on the right",
            )
    inputs = checkpoint.inputs
    by_user = {policy: source for source, policies in renames.items() for policy in policies}
    by_checkpoint = {policy: source for source, policy in checkpoint.renames.items()}
    unknown = [policy for policy in by_user if policy not in inputs]
    if unknown:
        raise UsageError(
            "--rename_map",
            expected=f"policy keys ({', '.join(inputs)})",
            found=", ".join(unknown),
            fix="name a key that the policy has on the right",
        )
    feeds: dict[str, str] = {}
    missing = []
    for key, kind in inputs.items():
        if key in by_user:
            feeds[key] = by_user[key]
        elif by_checkpoint.get(key) in robot.features:
            feeds[by_checkpoint[key]] = by_checkpoint[key]
        elif key in robot.features:
            feeds[key] = key
        elif "empty_camera" not in key:
            missing.append((key, kind))
    in_use = {*feeds.values(), *renames}
    _report_missing(checkpoint, robot, missing, in_use, findings)
    return feeds


def _report_missing(
    checkpoint: Checkpoint,
    robot: Robot,
    missing: list[tuple[str, str]],
    in_use: set[str],
    findings: list[Finding],
) -> None:
    cameras = [key for key, kind in missing if kind == "VISUAL"]
    for key, kind in missing:
        if kind != "VISUAL":
            findings.append(
                Finding(
                    "state_missing" if kind == "STATE" else "input_missing",
                    "error",
                    f"expected {key}, which the policy reads; found only "
                    f"{', '.join(robot.observed)} in the {robot.kind}.",
                    f"--rename_map if the {robot.kind} has it under another name",
                    forceable=False,
                )
            )
    if cameras:
        findings.append(_unfed(checkpoint, robot, cameras, in_use))


def _unfed(checkpoint: Checkpoint, robot: Robot, cameras: list[str], in_use: set[str]) -> Finding:
    """Cameras without a source: lerobot goes on without some, where nothing else is left."""
    kind, n_empty = checkpoint.kind, checkpoint.settings.empty_cameras
    free = [camera for camera in robot.cameras if camera not in in_use]
    proposal = _pair_cameras(cameras, free)
    none_fed = len(cameras) == len(checkpoint.cameras)
    masked = not none_fed and len(cameras) <= n_empty
    goes_on = not none_fed and not free and kind.unfed != "refuses"
    what = (
        f"expected a source for {', '.join(cameras)}; found cameras "
        f"{', '.join(robot.cameras) or 'none'} in the {robot.kind}"
    )
    if masked:
        return Finding(
            "camera_empty",
            "info",
            f"{what}. The policy declares empty cameras and gets masked pictures.",
            _map_of(proposal) or "nothing to do if it was trained so",
        )
    if goes_on:
        how = "feeds masked pictures" if kind.unfed == "masks" else "leaves them out"
        return Finding(
            "camera_unfed",
            "warning",
            f"{what}, all of them in use. lerobot {how}, and so does this run: right if "
            f"the {checkpoint.type} was trained so.",
            f"a {robot.kind} with the cameras of the training, if it was not",
        )
    return Finding(
        "camera_missing",
        "error",
        what + ("." if free or not robot.cameras else ", none of them free."),
        _map_of(proposal) or f"a {robot.kind} with a camera for each",
        forceable=not none_fed,
    )


def _map_of(proposal: dict[str, list[str]]) -> str:
    return f"--rename_map '{json.dumps(proposal)}'" if proposal else ""


def _pair_cameras(cameras: list[str], free: list[str]) -> dict[str, list[str]]:
    """Each policy camera with the unused source of the most similar name, as far as they go."""
    proposal: dict[str, list[str]] = {}
    left = list(free)
    for camera in cameras:
        if not left:
            break
        best = max(
            left, key=lambda s: difflib.SequenceMatcher(None, _leaf(s), _leaf(camera)).ratio()
        )
        proposal[best] = [camera]
        left.remove(best)
    return proposal


def _leaf(key: str) -> str:
    return key.rsplit(".", 1)[-1]


def _check_state(checkpoint: Checkpoint, robot: Robot, findings: list[Finding]) -> None:
    expected, found = checkpoint.state_dim, len(robot.state_names)
    if expected is not None and STATE in robot.features and expected != found:
        findings.append(
            Finding(
                "state_dim_mismatch",
                "error",
                f"expected {expected} state dims, which the policy was trained with; found {found} "
                f"({', '.join(robot.state_names[:8])}{', ...' if found > 8 else ''}).",
                "a checkpoint trained on this robot",
                forceable=False,
            )
        )


def _check_names(ours: list[str], theirs: list[str], findings: list[Finding]) -> None:
    """Compared dims must mean the same, as far as both sides name them."""
    if ours == theirs:
        return
    same = sorted(ours) == sorted(theirs)
    findings.append(
        Finding(
            "action_names_mismatch",
            "error" if same else "warning",
            f"expected action dims {', '.join(theirs)}; found {', '.join(ours)} in the checkpoint"
            + (": the same dims in another order." if same else "."),
            f"--action_dims {','.join(theirs)}" if same else "check that the dims mean the same",
        )
    )
