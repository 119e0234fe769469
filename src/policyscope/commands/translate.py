"""Words that mean ours: lerobot's own flags, and a file that holds a command.

A pasted ``lerobot-eval`` line runs; what was read is said. A flag that has no equal here is not
guessed at: `words` names ours instead.
"""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from policyscope.commands.words import Flag, flags_of, nearly
from policyscope.config.addresses import is_url
from policyscope.errors import InputError, UsageError
from policyscope.files import Door, parse_json

ALIASES: Mapping[str, str] = {"lerobot-eval": "rollout", "lerobot_eval": "rollout"}
"""Commands of lerobot that a command of ours stands for."""

_CONFIG = ("--config", "--config_path")
_ONE_TO_ONE: Mapping[str, str] = {
    "--eval.n_episodes": "--n_episodes",
    "--eval.batch_size": "--n_envs",
    "--policy.device": "--device",
    "--policy.dtype": "--dtype",
    "--policy.n_action_steps": "--n_action_steps",
    "--policy.pretrained_path": "--policy.path",
}
_NO_MATTER: Mapping[str, frozenset[str]] = {
    "--env.max_parallel_tasks": frozenset(),
    "--eval.use_async_envs": frozenset(),
    "--eval.recording": frozenset({"false"}),
    "--job_name": frozenset(),
    "--policy.push_to_hub": frozenset(),
    "--policy.use_amp": frozenset({"false"}),
    "--trust_remote_code": frozenset({"false"}),
}
"""Flags of lerobot that change no number here, with the values of which that is true; any where
none is named."""

_BRACKETS = 1000
_IMPORTED = frozenset({"--env.task", "--policy.type"})
"""Where a value with a colon is imported."""
_NO_SERVER = "no server to send data to"
_NO_STORE = "no address in a store, which is opened with your credentials"
_IN_STORES = frozenset({"--dataset.root", "--output_dir"})
_OF_DATASETS = "--dataset."
_MOST_DATASETS = 100
_NOT_REPEATED = frozenset(
    {"--output_dir", "--resume", "--overwrite", "--force", "--live", "--record", "--debug"}
)
"""Where a run went and what was waved through belongs to that run alone."""


def translated(words: Sequence[str], commands: Mapping[str, Any]) -> list[str] | None:
    """What was typed in our own words; None where it is in them already.

    Args:
        words: command and flags, as typed.
        commands: name → its config.

    Raises:
        UsageError: a file is of another command, or names code to import.
        InputError: it can't be read.
    """
    command = ALIASES.get(words[0], words[0]) if words else ""
    if not dataclasses.is_dataclass(commands.get(command)):
        return None
    flags, _ = flags_of(commands[command])
    typed = pairs_of(words[1:], flags)
    files = [pair for pair in typed if pair[0] in _CONFIG]
    ours = _in_ours([pair for pair in typed if pair not in files], flags)
    for file in files[:1]:
        named = {name for name, _ in ours}
        stored = _in_ours(_stored(command, file, flags), flags)
        stored = [pair for pair in stored if pair[0] not in named]
        _require_no_code(file, stored)
        ours = [*stored, *ours]
    if command == words[0] and ours == typed:
        return None
    return [command, *(word for name, values in ours for word in (name, *values) if word)]


Pair = tuple[str, tuple[str, ...]]
"""A flag and its values; a word without a flag has an empty name."""


def pairs_of(words: Sequence[str], flags: Mapping[str, Flag]) -> list[Pair]:
    """Flags with what follows them; ``--a=1`` and ``--a 1`` are alike."""
    pairs: list[Pair] = []
    for word in words:
        name, given, value = word.partition("=")
        if word.startswith("--"):
            pairs.append((name.replace("-", "_").replace("__", "--", 1), (value,) if given else ()))
        elif pairs and pairs[-1][0] and _takes(pairs[-1], flags):
            pairs[-1] = (pairs[-1][0], (*pairs[-1][1], word))
        else:
            pairs.append(("", (word,)))
    return pairs


def _takes(pair: Pair, flags: Mapping[str, Flag]) -> bool:
    flag = flags.get(pair[0])
    if flag is None:
        return not pair[1]
    return flag.takes == "many" or (flag.takes == "one" and not pair[1])


def by_dataset(words: Sequence[str], commands: Mapping[str, Any]) -> list[list[str]] | None:
    """The words of an evaluation of each dataset; None where one is named, or none.

    ``--dataset.*`` flags that are there several times name a dataset each time; those that are
    there once hold for all.

    Raises:
        UsageError: flags of datasets are there a different number of times.
    """
    if not words or words[0] != "eval":
        return None
    pairs = pairs_of(words[1:], flags_of(commands["eval"])[0])
    given: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        if pair[0].startswith(_OF_DATASETS):
            given[pair[0]].append(pair)
    several = {name: len(known) for name, known in given.items() if len(known) > 1}
    if not several:
        return None
    n = max(several.values())
    if set(several.values()) != {n} or n > _MOST_DATASETS:
        raise UsageError(
            " and ".join(sorted(several)),
            expected=f"each once for all datasets, or once for each of at most {_MOST_DATASETS}",
            found=", ".join(f"{name} {times} times" for name, times in several.items()),
            fix="--dataset.repo_id A --dataset.root DIR_A --dataset.repo_id B --dataset.root DIR_B",
        )
    rest = [pair for pair in pairs if pair[0] not in several]
    each = [[*rest, *(given[name][i] for name in several)] for i in range(n)]
    return [
        ["eval", *(word for name, values in one for word in (name, *values) if word)]
        for one in each
    ]


def _in_ours(pairs: Sequence[Pair], flags: Mapping[str, Flag]) -> list[Pair]:
    """Flags that the command has, as far as they can be had."""
    mine: list[Pair] = []
    settings: dict[str, Any] = {}
    for name, values in pairs:
        known = _ONE_TO_ONE.get(name)
        value = values[0] if values else ""
        if name in flags or not name:
            mine.append((name, values))
        elif name in _NO_MATTER and _no_matter(name, value):
            continue
        elif known is not None and known in flags:
            mine.append((known, ("auto",) if (known, value) == ("--n_envs", "0") else values))
        elif "--env.settings" in flags and _is_field(name, value) and not nearly(name, flags):
            settings[name.removeprefix("--env.")] = _value(value)
        else:
            mine.append((name, values))
    if settings:
        mine = _with_settings(mine, settings)
    return mine


def _no_matter(name: str, value: str) -> bool:
    allowed = _NO_MATTER[name]
    return not allowed or value.lower() in allowed


_NO_FIELDS = frozenset({"--env.discover_packages_path", "--env.fps"})


def _is_field(name: str, value: str) -> bool:
    dots = name.startswith("--env.") and name.count(".")
    return dots == 1 and bool(value) and name not in _NO_FIELDS


def _value(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        return {"True": True, "False": False, "None": None}.get(text, text)


def _with_settings(pairs: list[Pair], settings: dict[str, Any]) -> list[Pair]:
    others = [pair for pair in pairs if pair[0] != "--env.settings"]
    for name, values in pairs:
        if name == "--env.settings" and values:
            stored = _value(values[0])
            settings = {**(stored if isinstance(stored, dict) else {}), **settings}
    return [*others, ("--env.settings", (json.dumps(settings),))]


def _stored(command: str, file: Pair, flags: Mapping[str, Flag]) -> list[Pair]:
    """The flags that a file holds: a run's record, or a mapping in YAML or JSON."""
    if len(file[1]) != 1:
        raise UsageError(file[0], expected="a file", found="none", fix=f"{file[0]} out/run.json")
    path = Path(file[1][0]).expanduser()
    if path.is_dir():
        path = path / "run.json"
    door = Door(InputError, f"{file[0]} run.json of a run, or a YAML or JSON file of flags")
    content = _content(door, path)
    if "schema_version" in content and "environment" in content:
        return _of_run(command, path, content, flags)
    return _flat(door, path, content)


def _content(door: Door, path: Path) -> dict[str, Any]:
    if path.suffix == ".json":
        return door.object(path, most=2**28)
    text = door.read(path, most=2**16)
    if text.count(b"[") + text.count(b"{") > _BRACKETS:  # the parser's time grows with their square
        raise door.refuse(path, expected=f"at most {_BRACKETS} brackets", found="more")
    try:
        # An alias may stand for more than memory holds.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
            raise door.refuse(path, expected="YAML without aliases", found="one")
        content = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        found = " ".join(str(error).split())[:200]
        raise door.refuse(path, expected="YAML", found=found) from None
    if not isinstance(content, dict):
        raise door.refuse(path, expected="a mapping of flags", found=type(content).__name__)
    return content


def _of_run(
    command: str, path: Path, content: Mapping[str, Any], flags: Mapping[str, Flag]
) -> list[Pair]:
    environment = content["environment"]
    said = environment.get("command_line") if isinstance(environment, dict) else None
    line = said if isinstance(said, list) and all(isinstance(w, str) for w in said) else []
    made_by = ALIASES.get(line[1], line[1]) if len(line) > 1 else "no command line"
    if made_by != command:
        raise UsageError(
            f"--config {path}",
            expected=f"a run of policyscope {command}",
            found=f"one of {made_by!r}",
            fix=f"policyscope {made_by} --config {path}"
            if len(line) > 1
            else f"policyscope {command} with its flags",
        )
    pairs = pairs_of(line[2:], flags)
    return [pair for pair in pairs if pair[0] not in _NOT_REPEATED and pair[0] not in _CONFIG]


def _flat(door: Door, path: Path, content: Mapping[Any, Any], prefix: str = "") -> list[Pair]:
    """``{"policy": {"path": "x"}}`` as ``policy.path x``; what is null or false is left out."""
    flat: list[Pair] = []
    for key, value in content.items():
        if not isinstance(key, str) or prefix.count(".") > 3:
            raise door.refuse(path, expected="names of flags", found=repr(key)[:40])
        name = prefix + key
        if isinstance(value, dict) and name not in ("rename_map", "env.settings"):
            flat += _flat(door, path, value, f"{name}.")
        elif value is True and not name.startswith(("eval.", "env.")):
            flat.append((f"--{name}", ()))
        elif value is not None and value is not False:
            text = value if isinstance(value, str) else json.dumps(value)
            flat.append((f"--{name}", (text,)))
    return flat


def _require_no_code(file: Pair, stored: Sequence[Pair]) -> None:
    """A file may not name a module to import, nor a server or a store to talk to.

    These are for whoever types the command.
    """
    for name, values in stored:
        code = name in _IMPORTED and ":" in "".join(values)
        store = name in _IN_STORES and any(map(is_url, values))
        if code or store or name in ("--policy.url", "--ray.address"):
            nothing = _NO_STORE if store else _NO_SERVER
            raise UsageError(
                f"{file[0]} {' '.join(file[1])}",
                expected=f"a file that names {'no code to import' if code else nothing}",
                found=f"{name} {' '.join(values)}",
                fix=f"the same command with {name} {' '.join(values)}, if you trust it",
            )
