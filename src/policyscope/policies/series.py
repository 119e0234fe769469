"""The checkpoints of a training run: which folders, of which step, and whether they are whole.

Folders may be a stranger's, or be written at this moment: names and steps are taken for no more
than that, a link that leads elsewhere is passed over, and nothing in them is opened here but the
step's number.
"""

from __future__ import annotations

import glob
import re
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol, final

from policyscope.errors import CheckpointError, InputError, UsageError
from policyscope.files import Door
from policyscope.policies.adapter import CONFIG as ADAPTER
from policyscope.policies.adapter import WEIGHTS as ADAPTER_WEIGHTS
from policyscope.policies.checkpoint import POSTPROCESSOR, PREPROCESSOR, WEIGHTS

_MODEL: Final = "pretrained_model"
_STATE: Final = "training_state"
_STEP: Final = "training_step.json"
_SETTLED_S = 60.0  # untouched for so long, a file is not being written
_MOST_FILES = 2000
_DOOR = Door(CheckpointError, "mend it, or name the checkpoint's folder by its step")

Look = tuple[tuple[str, int, int], ...]
"""Name, bytes and time of last change of each file of a checkpoint."""


@final
@dataclass(frozen=True)
class Saved:
    """A checkpoint of a training run.

    Attributes:
        path: its folder, as it was named.
        name: what to call it: its step as lerobot writes it, or its folder's name.
        step: of the training, where that is known.
    """

    path: Path
    name: str
    step: int | None

    def look(self) -> Look | None:
        """What its files look like; None where some that belong to it are not there yet."""
        try:
            files = sorted(f for f in self.path.iterdir() if f.is_file())[:_MOST_FILES]
            seen = tuple((f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files)
        except OSError:
            return None
        names = {name for name, *_ in seen}
        needed = {"config.json", PREPROCESSOR, POSTPROCESSOR}
        adapter = {ADAPTER, ADAPTER_WEIGHTS} <= names
        weights = adapter or WEIGHTS in names or f"{WEIGHTS}.index.json" in names
        return seen if needed <= names and weights else None

    def settled(self, seen: Look, before: Look | None) -> bool:
        """Whether nobody writes it any more.

        lerobot writes the training's state after the model; without it, files count as whole when
        two looks find the same, or when nobody has touched them for a minute.

        Args:
            seen: now.
            before: at the look before, or None.
        """
        if self.path.name == _MODEL and (self.path.parent / _STATE / _STEP).is_file():
            return True
        newest = max(changed for *_, changed in seen) / 1e9
        return seen == before or time.time() - newest > _SETTLED_S


@final
@dataclass(frozen=True)
class Found:
    """What a pattern led to.

    Attributes:
        saved: checkpoints, in the order of their steps; of their names where some have no step.
        passed_over: links that lead out of the pattern's folder.
    """

    saved: tuple[Saved, ...]
    passed_over: tuple[str, ...]


def find(words: Sequence[str], *, patient: bool = False) -> Found:
    """The checkpoints that patterns, folders, or folders of training runs name, each once.

    Args:
        words: of the command line; the shell may have unfolded a pattern already.
        patient: whether none is no error, because they are still to come.

    Raises:
        UsageError: a word leads to no checkpoint.
    """
    chosen: dict[Path, Path] = {}
    left: list[str] = []
    for word in words:
        folders, outside = _folders(word)
        left += outside
        if not folders and not patient:
            raise UsageError(
                "policyscope sweep",
                expected="checkpoints (folders with config.json and model.safetensors)",
                found=f"none at {word}",
                fix="policyscope sweep 'outputs/train/x/checkpoints/*/pretrained_model' …",
            )
        for folder in folders:
            real = folder.resolve()
            known = chosen.get(real)
            if known is None or (_linked(known) and not _linked(folder)):
                chosen[real] = folder
    saved = [_saved(path, real) for real, path in chosen.items()]
    return Found(tuple(in_order(_named_apart(saved, list(chosen)))), tuple(dict.fromkeys(left)))


def _folders(word: str) -> tuple[list[Path], list[str]]:
    """The checkpoint folders that a word names, and links that lead out of where it looks."""
    pattern = str(Path(word).expanduser())
    if not glob.has_magic(pattern) or Path(pattern).exists():
        return _inside(Path(pattern)), []
    parts = Path(pattern).parts
    at = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    fixed, rest = Path(*parts[:at]), str(Path(*parts[at:]))
    base, folders, outside = fixed.resolve(), [], []
    for match in sorted(fixed.glob(rest)):
        for folder in _inside(match):
            if folder.resolve().is_relative_to(base):
                folders.append(folder)
            else:
                outside.append(str(folder))
    return folders, outside


def _inside(folder: Path) -> list[Path]:
    """The checkpoints at a folder: itself, the one in it, or those of the training in it."""
    if not folder.is_dir():
        return []
    if (folder / "config.json").exists() or folder.name == _MODEL:
        return [folder]
    if (folder / _MODEL).is_dir():
        return [folder / _MODEL]
    steps = folder / "checkpoints"
    within = sorted(steps.iterdir()) if steps.is_dir() else []
    real = steps.resolve()
    return [
        step / _MODEL
        for step in within
        if (step / _MODEL).is_dir() and (step / _MODEL).resolve().is_relative_to(real)
    ]


def _linked(folder: Path) -> bool:
    return folder.is_symlink() or (folder.name == _MODEL and folder.parent.is_symlink())


def _saved(path: Path, real: Path) -> Saved:
    holder = real.parent if real.name == _MODEL else real
    return Saved(path, holder.name, _step(holder))


def _step(holder: Path) -> int | None:
    """The step that a folder's name says, else the one that lerobot wrote beside the model."""
    if holder.name.isascii() and holder.name.isdigit() and len(holder.name) <= 12:
        return int(holder.name)
    file = holder / _STATE / _STEP
    if not file.is_file():
        return None
    try:
        step = _DOOR.object(file, most=1 << 16).get("step")
    except InputError:
        return None
    if not isinstance(step, int) or isinstance(step, bool):
        return None
    return step if 0 <= step < 10**12 else None


def _named_apart(saved: Sequence[Saved], real: Sequence[Path]) -> list[Saved]:
    """The same under names that are folders' names anywhere, each of them once."""
    for depth in range(1, 8):
        names = [_plain(path, depth) for path in real]
        if len(set(names)) == len(names):
            break
    seen = Counter[str]()
    apart = []
    for one, name in zip(saved, names, strict=True):
        seen[name] += 1
        apart.append(replace(one, name=name if seen[name] == 1 else f"{name}-{seen[name]}"))
    return apart


def _plain(path: Path, depth: int) -> str:
    holder = path.parent if path.name == _MODEL else path
    ending = [p for p in holder.parts if p not in ("checkpoints", holder.anchor)][-depth:]
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", "-".join(ending)).strip(".-")[:80] or "checkpoint"


class _Placed(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def step(self) -> int | None: ...


def in_order[P: _Placed](placed: Iterable[P]) -> list[P]:
    """By step; by name, numbers in it as numbers, where a step is not known."""
    known = list(placed)
    if all(one.step is not None for one in known):
        return sorted(known, key=lambda one: (one.step or 0, one.name))
    return sorted(known, key=lambda one: _natural(one.name))


def _natural(name: str) -> list[tuple[int, str]]:
    parts = re.findall(r"\d{1,12}|\D+", name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
