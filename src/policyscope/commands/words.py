"""Words at the command line, read before the parser: one line for what nobody knows.

The parser draws boxes and lists the flags of all commands; a person who mistyped one wants that
one. lerobot's own words, which many fingers know, get the hint that leads on.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, final

import tyro

from policyscope.config.addresses import is_url
from policyscope.errors import UsageError

_CHECKPOINT = "set it in the checkpoint's config.json, which decides what runs"

LEROBOT: Mapping[str, str] = {
    "--config_path": "--policy.path DIR: the checkpoint brings its own config",
    "--eval.batch_size": "--n_envs N for simulators side by side, --batch_size N for model calls",
    "--eval.n_episodes": "--n_episodes N",
    "--eval.recording": "--record DIR",
    "--eval.recording_private": "--record DIR; push it with lerobot's own tools",
    "--eval.recording_repo_id": "--record DIR; push it with lerobot's own tools",
    "--eval.use_async_envs": "leave it out: each simulator has a process of its own; --n_envs N",
    "--env.discover_packages_path": "--env.type gym --env.task PACKAGE:ID imports the package",
    "--env.fps": "leave it out: simulators have a rate of their own; --env.control_hz 20 where one "
    """does not say it, --env.settings '{"fps": 20}' for libero""",
    "--env.max_parallel_tasks": "--n_envs N",
    "--job_name": "--output_dir DIR",
    "--policy.compile_model": "--compile",
    "--policy.device": "--device cpu, cuda or mps",
    "--policy.dtype": "--dtype bfloat16",
    "--policy.n_action_steps": "--n_action_steps N",
    "--policy.pretrained_path": "--policy.path DIR",
    "--policy.repo_id": "--policy.path USER/NAME",
    "--policy.use_amp": "--dtype bfloat16",
    "--trust_remote_code": "leave it out: no code from a hub is run",
}
"""Flags of lerobot-eval and lerobot-train that mean something here, and what does."""

_FREE = tyro.conf.Positional[str]
_HERE = frozenset({"--record", "--html", "--junit", "--picture", "--model_card", "--output"})
"""Flags that name what is written to this machine alone."""
_SURE = 0.88  # of two names' likeness: more than a slip of the finger apart are --type, --obs_type

_FAMILIES: Mapping[str, str] = {
    "--eval.": "policyscope rollout --help",
    "--policy.": _CHECKPOINT,
    "--wandb.": "leave it out: nothing is sent anywhere",
}


@final
@dataclass(frozen=True)
class Flag:
    """What may follow a flag.

    Attributes:
        takes: no value, one, or any number of them.
        hint: the type of a value.
    """

    takes: Literal["none", "one", "many"]
    hint: Any


def flags_of(kind: Any, prefix: str = "") -> tuple[dict[str, Flag], bool]:
    """The flags of a command, and whether it takes words without a flag.

    Args:
        kind: its config, a dataclass whose fields may be dataclasses.
        prefix: of the fields' names.
    """
    flags: dict[str, Flag] = {}
    free = False
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        if name not in {f.name for f in dataclasses.fields(kind)}:
            continue
        flag = name
        if typing.get_origin(hint) is Annotated:
            if set(hint.__metadata__) & set(typing.cast(Any, _FREE).__metadata__):
                free = True
                continue
            flag = next((m.name for m in hint.__metadata__ if getattr(m, "name", None)), name)
            hint = hint.__origin__
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            flags |= flags_of(hint, f"{prefix}{name}.")[0]
            continue
        hint = _without_none(hint)
        default = next(f.default for f in dataclasses.fields(kind) if f.name == name)
        if hint is bool:
            word = f"{prefix}no_{flag}" if default is True else prefix + flag
            flags[f"--{word}"] = Flag("none", bool)
        else:
            many = typing.get_origin(hint) in (tuple, list, set, frozenset, dict)
            flags[f"--{prefix}{flag}"] = Flag("many" if many else "one", hint)
    return flags, free


def require_known(words: Sequence[str], commands: Mapping[str, Any]) -> None:
    """Raise for a command, a flag or a value that the parser would draw a box about.

    Raises:
        UsageError: there is one.
    """
    if not words or {"-h", "--help"} & set(words) or any(w.startswith("--tyro") for w in words):
        return
    command, *rest = words
    if command not in commands:
        raise UsageError(
            "policyscope",
            expected=f"a command ({', '.join(commands)})",
            found=repr(command),
            fix=_command_for(command, rest, commands),
        )
    if dataclasses.is_dataclass(commands[command]):
        _require_flags(command, rest, commands)


def _require_flags(command: str, rest: Sequence[str], commands: Mapping[str, Any]) -> None:
    flags, free = flags_of(commands[command])
    i = 0
    while i < len(rest):
        word, given, value = rest[i].partition("=")
        i += 1
        if not word.startswith("--"):
            if free and not word.startswith("-"):
                continue
            raise UsageError(
                f"policyscope {command}",
                expected="a flag",
                found=repr(rest[i - 1]),
                fix=_nearest(f"--{word.lstrip('-')}", flags) or f"policyscope {command} --help",
            )
        name = "--" + word[2:].replace("-", "_")
        flag = flags.get(name)
        if flag is None:
            following = value if given else (rest[i] if i < len(rest) else "")
            raise UsageError(
                f"policyscope {command}",
                expected="one of its flags",
                found=word,
                fix=hint_for(name, following, command, commands),
            )
        values = [value] if given else _values(rest[i:], flag)
        i += 0 if given else len(values)
        _require_values(name, flag, values)


def hint_for(name: str, value: str, command: str, commands: Mapping[str, Any]) -> str:
    """What to write instead of a flag that the command does not have."""
    flags, _ = flags_of(commands[command])
    known = LEROBOT.get(name)
    if known is not None:
        return (
            known
            if known.split()[0] in flags or not known.startswith("--")
            else _elsewhere(known, name, command, commands)
        )
    near = _nearest(name, flags)
    if name.startswith("--env.") and "--env.settings" in flags:
        if near is not None and difflib.SequenceMatcher(None, name, near).ratio() > _SURE:
            return near
        field = name.removeprefix("--env.")
        return f"--env.settings '{json.dumps({field: _as_json(value)})}'"
    if near is not None:
        return near
    for family, hint in _FAMILIES.items():
        if name.startswith(family):
            return hint
    return _elsewhere(f"policyscope {command} --help", name, command, commands)


def _elsewhere(otherwise: str, name: str, command: str, commands: Mapping[str, Any]) -> str:
    """Another command that has the flag, or one much like it; else what is said otherwise."""
    wanted = otherwise.split()[0] if otherwise.startswith("--") else name
    for other, kind in commands.items():
        if other != command and dataclasses.is_dataclass(kind):
            near = difflib.get_close_matches(wanted, flags_of(kind)[0], n=1, cutoff=_SURE)
            if near:
                return f"leave it out: {near[0]} is a flag of policyscope {other}"
    return otherwise


def nearly(name: str, flags: Mapping[str, Flag]) -> bool:
    """Whether a flag that is not known is one that is, with a letter or two wrong."""
    return bool(difflib.get_close_matches(name, flags, n=1, cutoff=_SURE))


def _nearest(name: str, flags: Mapping[str, Flag]) -> str | None:
    """The flag that was probably meant: by its whole name, else by its last word."""
    near = difflib.get_close_matches(name, flags, n=1, cutoff=0.75)
    if near:
        return near[0]
    last = name.rpartition(".")[2].lstrip("-")
    alike = [flag for flag in flags if flag.rpartition(".")[2].lstrip("-") == last]
    return alike[0] if alike else None


def _command_for(command: str, rest: Sequence[str], commands: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(command.replace("-", "_"), commands, n=1, cutoff=0.6)
    if near:
        return f"policyscope {near[0]}"
    if command.startswith("-"):
        named = [word for word in rest if word in commands]
        return f"policyscope {named[0] if named else 'eval'} {command} …: the command comes first"
    return "policyscope --help"


def _values(rest: Sequence[str], flag: Flag) -> list[str]:
    if flag.takes == "none":
        return []
    values: list[str] = []
    for word in rest:
        if word.startswith("--") or (flag.takes == "one" and values):
            break
        values.append(word)
    return values


def _require_values(name: str, flag: Flag, values: Sequence[str]) -> None:
    if flag.takes == "none":
        if values:
            raise UsageError(name, expected="no value", found=repr(values[0]), fix=name)
        return
    if not values and flag.takes == "one":
        raise UsageError(name, expected="a value", found="none", fix=f"{name} {_example(flag)}")
    if name in _HERE and any(map(is_url, values)):
        raise UsageError(
            name,
            expected="a path of this machine",
            found="an address",
            fix=f"{name} with a path, then copy it there",
        )
    for value in values if flag.takes == "one" else ():
        if not _fits(value, flag.hint):
            raise UsageError(
                name,
                expected=_expected(flag.hint),
                found=repr(value),
                fix=f"{name} {_near_choice(value, flag)}",
            )


def _fits(value: str, hint: Any) -> bool:
    if typing.get_origin(hint) is Literal:
        return value in map(str, typing.get_args(hint))
    if hint in (int, float):
        try:
            hint(value)
        except ValueError:
            return False
    return True


def _expected(hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, typing.get_args(hint)))}"
    return "a whole number" if hint is int else "a number"


def _example(flag: Flag) -> str:
    if typing.get_origin(flag.hint) is Literal:
        return str(typing.get_args(flag.hint)[0])
    return "4" if flag.hint is int else "0.5" if flag.hint is float else "VALUE"


def _near_choice(value: str, flag: Flag) -> str:
    if typing.get_origin(flag.hint) is Literal:
        choices = [str(choice) for choice in typing.get_args(flag.hint)]
        near = difflib.get_close_matches(value, choices, n=1, cutoff=0.5)
        return (near or choices)[0]
    return _example(flag)


def _without_none(hint: Any) -> Any:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        others = [arg for arg in typing.get_args(hint) if arg is not type(None)]
        return others[0] if len(others) == 1 else hint
    return hint


def _as_json(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value or 256
