"""``meta/info.json`` and ``meta/stats.json`` as typed objects: checked once, at the door."""

from __future__ import annotations

import math
import shlex
import string
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any, Final, final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from policyscope.data.files import Folder, validated
from policyscope.errors import DatasetError

INFO = "meta/info.json"
STATS = "meta/stats.json"
ACTION = "action"
STATE = "observation.state"

_DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
_PATHS = "take the path of LeRobot v3.0 if the files lie so; else convert the dataset again"
_MOST_PIXELS = 40_000_000  # a camera of 8K has 33 million
_MOST_VALUES = 1_000_000  # of one feature in one frame
_CHANNELS = (1, 3, 4)
_CHANNEL_NAMES = ("channel", "channels")

Stats = dict[str, dict[str, NDArray[Any]]]
"""Feature key → statistic → values."""

Count = Annotated[int, Field(ge=0, le=10**12)]


@final
class Info(BaseModel):
    """What ``meta/info.json`` says; counts that it leaves out are None.

    Attributes:
        codebase_version: of the format, for example ``v3.0``.
        fps: frames per second.
        features: what each feature declares, as it stands there.
        robot_type: as recorded, or None.
        total_episodes: how many there should be.
        total_frames: of all episodes.
        total_tasks: how many texts there should be.
        data_path: template of the Parquet files' names.
        video_path: template of the videos' names, or None.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    codebase_version: str
    fps: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
    features: dict[str, Any]
    robot_type: str | None = None
    total_episodes: Count | None = None
    total_frames: Count | None = None
    total_tasks: Count | None = None
    data_path: str = _DATA_PATH
    video_path: str | None = None


@final
class Feature(BaseModel):
    """One feature of ``meta/info.json``.

    Attributes:
        dtype: of its values; ``image`` and ``video`` for cameras.
        shape: of one frame's values.
        names: of its dims: lists, nested lists, mappings or null.
        info: further remarks.
        video_info: where older versions keep them.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    dtype: str
    shape: Annotated[tuple[int, ...], Field(strict=False, max_length=8)]
    names: Any = None
    info: dict[str, Any] | None = None
    video_info: dict[str, Any] | None = None

    @property
    def is_camera(self) -> bool:
        """Whether its values are pictures."""
        return self.dtype in ("image", "video")

    @property
    def is_depth(self) -> bool:
        """Whether its pictures are depth maps (`LeRobotDatasetMetadata.depth_keys`)."""
        remarks = (self.info or {}, self.video_info or {})
        return any(r.get("is_depth_map") or r.get("video.is_depth_map") for r in remarks)

    @property
    def is_numeric(self) -> bool:
        """Whether its values are numbers."""
        try:
            return np.dtype(self.dtype).kind in "fiub"
        except (TypeError, ValueError, SyntaxError):
            return False

    @property
    def dims(self) -> int:
        """Numbers a frame."""
        return math.prod(self.shape)

    @property
    def picture(self) -> tuple[int, int, int]:
        """(C, H, W) of a camera; names decide where channels stand, else the sizes do."""
        a, b, c = self.shape
        names = self.names if isinstance(self.names, list) and len(self.names) == 3 else [None] * 3
        last = names[2] in _CHANNEL_NAMES or (names[0] not in _CHANNEL_NAMES and c in _CHANNELS)
        return (c, a, b) if last else (a, b, c)


def read_info(folder: Folder) -> Info:
    """Read ``meta/info.json``.

    Raises:
        DatasetError: missing, not JSON, of another format, or a field is of another type.
    """
    content = folder.json(INFO)
    _require_version(content.get("codebase_version"), folder)
    info = validated(Info, content, f"{INFO} of {folder.name}")
    for field in ("data_path", "video_path"):
        parts = PurePosixPath(content.get(field) or "").parts
        if ".." in parts or "/" in parts[:1]:
            found = repr(content[field])[:120]
            raise folder.refused(f"{field} in {INFO}", "a path inside the folder", found, _PATHS)
    return info if "video_path" in content else info.model_copy(update={"video_path": _VIDEO_PATH})


def _require_version(version: Any, folder: Folder) -> None:
    """Raise unless a dataset has the format of LeRobot v3.0, with what converts it."""
    text = version if isinstance(version, str) else ""
    if text.startswith("v3."):
        return
    if text in ("v2.0", "v2.1"):
        paths = shlex.join([folder.place, f"{folder.place}-v30"])
        fix = f"policyscope convert {paths}, which writes a converted one there"
    elif text.startswith("v1."):
        fix = "convert a copy to v2.1 with lerobot 0.3 or older, then policyscope convert"
    elif text[:1] == "v" and text[1:2].isdigit():
        fix = "a newer policyscope, if there is one that reads this format"
    else:
        fix = "give the directory of a LeRobot dataset"
    raise folder.refused(
        INFO,
        "a LeRobot v3.0 dataset",
        f"version {text[:40]}" if text else "no codebase_version",
        fix,
    )


def read_features(info: Info, name: str) -> dict[str, Feature]:
    """The action, and the observations that are numbers or coloured pictures, in their order.

    Others (texts, depth maps) are left out: nobody here can read them.

    Raises:
        DatasetError: no action, or a feature declares a size that can't be.
    """
    read: dict[str, Feature] = {}
    for key, declared in info.features.items():
        if key != ACTION and not key.startswith("observation."):
            continue
        what = f"features.{key} in {INFO} of {name}"
        if not isinstance(declared, dict):
            declared = {"dtype": declared}
        try:
            feature = Feature.model_validate(declared)
        except (ValidationError, RecursionError):
            if declared.get("dtype") == "string":
                continue
            feature = validated(Feature, declared, what)
        if feature.is_camera and not feature.is_depth:
            _require_camera(feature, what)
        elif not feature.is_numeric or feature.is_depth:
            continue
        else:
            _require_values(feature, what)
        read[key] = feature
    if ACTION not in read or read[ACTION].is_camera:
        raise DatasetError(
            f"dataset {name}",
            expected=f"a feature named {ACTION}, of numbers",
            found=", ".join(info.features) or "no features",
            fix=f"record it again, or rename the column to {ACTION} in a copy: in {INFO}, {STATS} "
            "and the files below data/",
        )
    return read


def left_out(info: Info, read: Mapping[str, Feature]) -> dict[str, str]:
    """Observations that `read_features` left out → what they are, in a word or two."""
    found = {}
    for key, declared in info.features.items():
        if key.startswith("observation.") and key not in read:
            dtype = str(declared.get("dtype") if isinstance(declared, dict) else declared)[:40]
            found[key] = "a depth map" if dtype in ("image", "video") else dtype
    return found


def _require_camera(feature: Feature, what: str) -> None:
    shape = feature.shape
    if len(shape) == 3 and min(shape) > 0:
        channels, height, width = feature.picture
        if channels in _CHANNELS and height * width <= _MOST_PIXELS:
            return
    raise DatasetError(
        what,
        expected=f"a shape (height, width, channels) of at most {_MOST_PIXELS} pixels",
        found=str(shape),
        fix="correct the shape to that of the pictures",
    )


def _require_values(feature: Feature, what: str) -> None:
    if feature.shape and not (min(feature.shape) > 0 and feature.dims <= _MOST_VALUES):
        raise DatasetError(
            what,
            expected=f"a shape of 1 to {_MOST_VALUES} numbers a frame",
            found=str(feature.shape),
            fix="correct the shape to that of the column",
        )


def flat_names(names: Any, dims: int, key: str) -> tuple[str, ...]:
    """One name a dim, from what LeRobot's metadata holds.

    Args:
        names: lists, nested lists, mappings to lists, name → index mappings, or null.
        dims: how many there are.
        key: what dims without names are called.

    Returns:
        The names in the order of the dims; ``key[0]`` … where there is not one for each.
    """
    flat: list[str] = []
    waiting = [names]
    for _ in range(4 * dims + 64):  # bounds what a deep or endless list can cost
        if not waiting:
            break
        value = waiting.pop()
        if isinstance(value, str):
            flat.append(value)
        elif isinstance(value, Mapping):
            order = _by_index(value)
            waiting += reversed(list(value.values())) if order is None else reversed(order)
        elif isinstance(value, list | tuple):
            waiting += reversed(value)
    if waiting or len(flat) != dims:
        return tuple(f"{key}[{i}]" for i in range(dims))
    if len(set(flat)) == dims:
        return tuple(flat)
    return tuple(f"{name}[{i}]" if flat.count(name) > 1 else name for i, name in enumerate(flat))


def _by_index(names: Mapping[Any, Any]) -> list[Any] | None:
    """The keys of a name → index mapping, in the order of the indices; None for other mappings."""
    indices = list(names.values())
    if not indices or not all(type(i) is int for i in indices):
        return None
    if sorted(indices) != list(range(len(indices))):
        return [None] * len(indices)  # indices that can't be: no names
    return sorted(names, key=lambda name: int(names[name]))


def read_stats(folder: Folder) -> tuple[Stats, tuple[str, ...]]:
    """Read ``meta/stats.json``; none where the file is missing.

    Returns:
        The statistics that are finite numbers, and the dotted names (``action.std``) of those that
        are not: whoever needs one of them lacks it.

    Raises:
        DatasetError: not JSON.
    """
    if not folder.has(STATS):
        return {}, ()
    stats: Stats = {}
    broken = []
    for key, table in folder.json(STATS).items():
        if not isinstance(table, dict):
            continue
        stats[key] = {}
        for name, values in table.items():
            array = _numbers(values)
            usable = array is not None and np.isfinite(array).all()
            if array is None or not usable or (name == "std" and (array < 0).any()):
                broken.append(f"{key}.{name}")
            else:
                stats[key][name] = array
    return stats, tuple(broken)


def _numbers(values: Any) -> NDArray[Any] | None:
    """Nested lists of numbers as an array of at least one dim; None for anything else."""
    try:
        array = np.atleast_1d(np.array(values))
    except (ValueError, TypeError, RecursionError, OverflowError):  # ragged
        return None
    return array if array.dtype.kind in "fiu" else None


_PARTS: Final = string.Formatter()


def fill_path(template: str | None, what: str, name: str, **values: Any) -> str:
    """The name of a file, from its template.

    Only plain fields with a width (``{chunk_index:03d}``) are filled: the template is a
    stranger's, and Python's format language could reach attributes or write gigabytes.

    Raises:
        DatasetError: another field, or no template.
    """
    try:
        text = ""
        for literal, field, spec, conversion in _PARTS.parse(template or ""):
            text += literal
            if field is None:
                continue
            if field not in values or conversion is not None or not _plain(spec or ""):
                raise ValueError(field)
            text += format(values[field], spec or "")
        if template:
            return text
    except ValueError:
        pass
    raise DatasetError(
        f"{what} in {INFO} of {name}",
        expected="a path with " + ", ".join(f"{{{field}}}" for field in values),
        found=repr(template)[:120],
        fix=_PATHS,
    )


def _plain(spec: str) -> bool:
    digits = spec.removesuffix("d")
    return digits == "" or (digits.isascii() and digits.isdigit() and len(digits) <= 2)
