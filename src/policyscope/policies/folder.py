"""The folder of a checkpoint, which comes from strangers: what is opened in it, and how.

Only regular files that lie inside the folder are opened (in the hub's cache a file is a link to
``../../blobs``, which belongs to it), their sizes are checked first, and JSON is read as JSON is
defined. Nothing that a file names leads out of the folder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn, final

from policyscope.errors import CheckpointError, first_line
from policyscope.files import Door

SMALL = 16 * 2**20
"""Configurations are some kilobytes; the largest that we have seen has three megabytes."""
_MOST_FILES = 2000
_CODE = ("auto_map", "custom_pipelines", "custom_generate", "fast_tokenizer_files", "init_inputs")
"""Keys by which transformers finds code, or files under names of the checkpoint's choice."""
_FREE_NAMES = ("special_tokens_map_file", "tokenizer_config_file")  # written, never opened


@final
@dataclass(frozen=True)
class Folder:
    """A folder with files of a checkpoint.

    Attributes:
        path: as the user gave it, for messages.
        directory: where it lies, links resolved.
    """

    path: str
    directory: Path

    def file(self, name: str) -> Path | None:
        """A regular file in the folder, or None where there is none.

        Raises:
            CheckpointError: it lies outside, or is a pipe, a device, or something else to wait for.
        """
        inner = PurePosixPath(name)
        if not name or "\0" in name or inner.is_absolute() or ".." in inner.parts:
            self._outside(name, "a path of its own")
        file = self.directory / name
        try:
            if not os.path.lexists(file):
                return None
            target = file.resolve(strict=True)
        except (OSError, RuntimeError, ValueError) as error:
            raise self._door(name).refuse(
                f"{self.path}, {name[:100]!r}",
                expected="a file that can be read",
                found=first_line(error),
            ) from error
        if not self._holds(target):
            self._outside(name, f"a link to {target}")
        with self._door(name).open(file):
            return file

    def require_small(self, name: str, most: int) -> None:
        """Raise where a file that is there has more than `most` bytes.

        Raises:
            CheckpointError: it has.
        """
        with self._door(name).open(self.directory / name, most=most):
            pass

    def json(self, name: str, *, finite: bool = True, narrow: bool = True) -> Any:
        """The content of a JSON file, or None where there is none.

        Raises:
            CheckpointError: not JSON, nested too deep, too large, or not a file of this folder.
        """
        file = self.file(name)
        if file is None:
            return None
        return self._door(name).json(file, most=SMALL, finite=finite, narrow=narrow)

    def table(self, name: str) -> dict[str, Any] | None:
        """As `json`, where an object is expected.

        Raises:
            CheckpointError: see `json`; or a list, a text, a number.
        """
        file = self.file(name)
        return None if file is None else self._door(name).object(file, most=SMALL)

    def subfolder(self, name: str) -> Path | None:
        """A folder that the checkpoint brings along, wherever it lay when it was saved.

        Args:
            name: as a file of the checkpoint has it: relative, or an absolute path of old.
        """
        for inner in (name, PurePosixPath(name.replace("\\", "/")).name):
            relative = PurePosixPath(inner)
            if not inner or "\0" in inner or relative.is_absolute() or ".." in relative.parts:
                continue
            candidate = self.directory / inner
            try:
                found = candidate.is_dir() and candidate.resolve() != self.directory
            except (OSError, ValueError):  # a name that no file system takes
                continue
            if found and candidate.resolve().is_relative_to(self.directory):
                return candidate
        return None

    def require_no_code(self, folder: Path) -> None:
        """Raise where a model or tokenizer in a sub-folder would lead to code, or out of here.

        Raises:
            CheckpointError: a file outside, something that is no file, or a key that names code.
        """
        for file in self._files(folder):
            name = file.relative_to(self.directory).as_posix()
            self.file(name)
            if file.name == "adapter_config.json":
                self._code(name, "an adapter, whose base model it names")
            if file.suffix == ".json" and file.name != "tokenizer.json" and "vocab" not in name:
                # transformers writes 10^30 where a tokenizer has no longest text
                self.require_plain(name, self.json(name, narrow=False))

    def _files(self, folder: Path) -> Iterator[Path]:
        n = 0
        for where, folders, files in os.walk(folder):
            for inner in folders:
                if (Path(where) / inner).is_symlink():
                    name = (Path(where) / inner).relative_to(self.directory).as_posix()
                    self._outside(name, "a linked folder")
            for file in files:
                n += 1
                if n > _MOST_FILES:
                    self._outside(folder.name, "thousands of files", expected="a model's files")
                yield Path(where) / file

    def require_plain(self, name: str, content: Any) -> None:
        """Raise where a key of a JSON value names code, or a file by a path.

        Raises:
            CheckpointError: one does.
        """
        for key, value in keys_and_values(content):
            if (key in _CODE or key == "trust_remote_code") and value:
                self._code(name, f"{key!r}")
            if key.endswith("attn_implementation") and "/" in str(value):
                self._code(name, f"{key!r}: {value!r}, a kernel from the hub")
            if key.startswith("audio_tokenizer") and value:
                self._code(name, f"{key!r}, another model")
            if (
                key.endswith("_file")
                and key not in _FREE_NAMES
                and isinstance(value, str)
                and "/" in value.replace("\\", "/")
            ):
                self._outside(name, f"{key!r}: {value!r}")

    def _holds(self, target: Path) -> bool:
        """Whether a file belongs to the folder: it lies inside, or is a blob of its snapshot."""
        if target.is_relative_to(self.directory):
            return True
        snapshots = self.directory.parent
        return snapshots.name == "snapshots" and target.parent == snapshots.parent / "blobs"

    def _outside(
        self, name: str, found: str, expected: str = "a file inside the checkpoint's folder"
    ) -> NoReturn:
        raise CheckpointError(
            f"{self.path}, {name!r}",
            expected=expected,
            found=found,
            fix="copy the file itself into the folder: nothing that a checkpoint names is opened "
            "outside it",
        )

    def _code(self, name: str, found: str) -> NoReturn:
        raise CheckpointError(
            f"{self.path}/{name}",
            expected="a model that runs no foreign code",
            found=found,
            fix="policyscope runs no code that a checkpoint names: remove the entry if the model "
            "works without it",
        )

    def _door(self, name: str) -> Door:
        return Door(CheckpointError, f"copy {name[:100]!r} again, as a file of the checkpoint")


def keys_and_values(content: Any) -> Iterator[tuple[str, Any]]:
    """Every key of a JSON value with what it holds, at any depth."""
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield from value.items()
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
