"""Every file that is read × every fault, and every flag × every bad value."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hostile.faults import Damage, field_damages, file_damages, rewrite


@dataclass(frozen=True)
class Case:
    """One bad input.

    Attributes:
        name: what is wrong with what.
        good: the folder of good files that is copied and spoiled; "" for flags.
        damage: spoils the copy.
        words: the command line, with ``{}`` where the spoiled copy's path goes, and ``{data}``,
            ``{policy}``, ``{run}`` for other good files.
        exact: whether accepted input must give the good input's numbers.
    """

    name: str
    good: str
    damage: Damage
    words: tuple[str, ...]
    exact: bool = False


_DATA = ("--dataset.repo_id", "fake/data", "--dataset.action_units", "px")
CHECK_POLICY = ("check", "--policy.path", "{}", "--dataset.root", "{data}", *_DATA)
CHECK_DATA = ("check", "--policy.type", "hold_state", "--dataset.root", "{}", *_DATA)
SMALL = ("--dataset.episodes", "3:5", "--max_frames", "12", "--latency_calls", "0")
EVAL = ("eval", "--policy.type", "hold_state", "--policy.chunk_size", "6", *SMALL)
EVAL_DATA = (*EVAL, "--dataset.root", "{}", *_DATA, "--output_dir", "{out}")
ROLLOUT = (
    "rollout",
    "--policy.type",
    "hold_state",
    "--policy.chunk_size",
    "6",
    "--env.type",
    "gym",
)
ROLLOUT = (*ROLLOUT, "--env.task", "fake_envs:fake_envs/Point-v0", "--n_episodes", "2")
ROLLOUT = (*ROLLOUT, "--n_envs", "1", "--latency_calls", "0", "--video", "none")
RESUME = (*EVAL, "--dataset.root", "{data}", *_DATA, "--output_dir", "{}", "--resume")
REPORT = ("report", "{}")
IMPORT = ("import", "{}", "--output_dir", "{out}", "--overwrite")

_FIELDS: dict[str, dict[str, list[tuple[str | int, ...]]]] = {
    "policy": {
        "config.json": [
            (),
            ("type",),
            ("input_features",),
            ("input_features", "observation.image"),
            ("input_features", "observation.image", "shape"),
            ("input_features", "observation.state", "shape", 0),
            ("input_features", "observation.state", "type"),
            ("output_features",),
            ("output_features", "action", "shape"),
            ("output_features", "action", "shape", 0),
            ("normalization_mapping",),
            ("normalization_mapping", "ACTION"),
            ("chunk_size",),
            ("n_action_steps",),
            ("n_obs_steps",),
            ("dim_model",),
            ("vision_backbone",),
            ("pretrained_backbone_weights",),
            ("device",),
        ],
        "policy_preprocessor.json": [
            (),
            ("steps",),
            ("steps", 0),
            ("steps", 0, "registry_name"),
            ("steps", 0, "config"),
            ("steps", 3, "state_file"),
            ("steps", 3, "config", "norm_map"),
            ("steps", 3, "config", "features"),
        ],
        "policy_postprocessor.json": [
            ("steps",),
            ("steps", 0, "registry_name"),
            ("steps", 0, "config"),
            ("steps", 0, "state_file"),
            ("steps", 0, "config", "norm_map", "ACTION"),
            ("steps", 0, "config", "features", "action", "shape"),
        ],
        "train_config.json": [
            (),
            ("dataset",),
            ("dataset", "repo_id"),
            ("dataset", "episodes"),
            ("dataset", "fps"),
            ("env",),
        ],
    },
    "data": {
        "meta/info.json": [
            (),
            ("codebase_version",),
            ("fps",),
            ("robot_type",),
            ("total_episodes",),
            ("total_frames",),
            ("data_path",),
            ("chunks_size",),
            ("features",),
            ("features", "action"),
            ("features", "action", "shape"),
            ("features", "action", "shape", 0),
            ("features", "action", "dtype"),
            ("features", "action", "names"),
            ("features", "observation.image", "shape"),
            ("features", "observation.image", "shape", 1),
            ("features", "observation.state", "dtype"),
        ],
        "meta/stats.json": [
            (),
            ("action",),
            ("action", "mean"),
            ("action", "std"),
            ("action", "mean", 0),
            ("action", "std", 0),
            ("observation.image", "mean"),
        ],
    },
    "run": {
        "run.json": [
            (),
            ("schema_version",),
            ("kind",),
            ("status",),
            ("forced",),
            ("policy",),
            ("policy", "path"),
            ("policy", "type"),
            ("policy", "chunk_size"),
            ("policy", "samples"),
            ("policy", "sha256"),
            ("dataset",),
            ("dataset", "repo_id"),
            ("dataset", "episodes"),
            ("dataset", "fps"),
            ("dataset", "split"),
            ("dataset", "root"),
            ("actions", "names"),
            ("actions", "names", 0),
            ("actions", "units"),
            ("actions", "normalization"),
            ("actions", "image_plane"),
            ("summary",),
            ("summary", "chunk", "mae"),
            ("summary", "chunk", "mae", "value"),
            ("skill",),
            ("skill", "hold_state", "chunk", "value"),
            ("baselines",),
            ("by_dim",),
            ("by_dim", 0),
            ("by_dim", 0, "std"),
            ("by_horizon", 0),
            ("by_episode",),
            ("by_episode", "file"),
            ("by_episode", "n_episodes"),
            ("by_episode", "chunk", "worst"),
            ("by_episode", "chunk", "metric"),
            ("by_task",),
            ("similarity", "ade"),
            ("smoothness",),
            ("findings",),
            ("latency",),
            ("latency", "model_call"),
            ("throughput",),
            ("throughput", "frames_per_s"),
            ("environment",),
            ("environment", "versions"),
            ("environment", "command_line"),
            ("inputs",),
            ("plan",),
        ],
    },
    "rollout": {
        "run.json": [
            ("env",),
            ("env", "name"),
            ("env", "tasks"),
            ("success",),
            ("success", "rate"),
            ("success", "n"),
            ("episodes",),
            ("episodes", 0),
            ("episodes", 0, "success"),
            ("episodes", 0, "episode"),
            ("episodes", 0, "max_reward"),
            ("closed_loop",),
            ("closed_loop", "ended"),
            ("closed_loop", "detectable"),
            ("throughput", "episodes_per_min"),
            ("smoothness",),
            ("executed_actions",),
        ],
    },
    "lerobots": {
        "eval_info.json": [
            (),
            ("per_task",),
            ("per_task", 0),
            ("per_task", 0, "task_group"),
            ("per_task", 0, "task_id"),
            ("per_task", 0, "metrics"),
            ("per_task", 0, "metrics", "successes"),
            ("per_task", 0, "metrics", "successes", 0),
            ("per_task", 0, "metrics", "max_rewards", 0),
            ("overall",),
            ("overall", "pc_success"),
            ("overall", "n_success"),
        ]
    },
    "part": {"parts/plan.json": [(), ("policy",), ("episodes",), ("units",)]},
    "rollout_part": {"parts/plan.json": [(), ("episodes",)]},
}

_FILES: dict[str, list[str]] = {
    "policy": [
        "config.json",
        "policy_preprocessor.json",
        "policy_postprocessor.json",
        "policy_preprocessor_step_*.safetensors",
        "policy_postprocessor_step_*.safetensors",
        "model.safetensors",
        "train_config.json",
    ],
    "data": [
        "meta/info.json",
        "meta/stats.json",
        "meta/tasks.parquet",
        "meta/episodes/*/*.parquet",
        "data/*/*.parquet",
    ],
    "video": ["videos/*/*/*.mp4"],
    "run": ["run.json", "predictions.parquet", "clips.parquet", "by_episode.parquet"],
    "rollout": ["run.json", "predictions.parquet", "steps.parquet"],
    "lerobots": ["eval_info.json"],
    "table": ["labels.csv"],
    "part": ["parts/plan.json", "parts/episode-*.parquet"],
    "rollout_part": ["parts/plan.json", "parts/episode-*.parquet", "parts/calls-*.parquet"],
}

WORDS: dict[str, tuple[str, ...]] = {
    "policy": (*CHECK_POLICY, "--frames", "4", "--device", "cpu"),
    "data": CHECK_DATA,
    "video": (*EVAL_DATA, "--overwrite"),
    "run": REPORT,
    "rollout": REPORT,
    "lerobots": IMPORT,
    "table": ("import", "{}/labels.csv", *IMPORT[2:]),
    "part": RESUME,
    "rollout_part": (*ROLLOUT, "--output_dir", "{}", "--resume"),
}


def cases() -> Iterator[Case]:
    """All of them, in a fixed order."""
    for good, files in _FIELDS.items():
        for file, paths in files.items():
            for path in paths:
                where = ".".join(map(str, path)) or "all of it"
                for fault, damage in field_damages(file, *path):
                    yield _case(good, f"{file}: {where}: {fault}", damage)
    for good, names in _FILES.items():
        for file in names:
            for fault, damage in file_damages(file):
                yield _case(good, f"{file}: {fault}", damage, exact="flipped" not in fault)
    for good, name, damage in _crafted():
        yield _case(good, name, damage)
    yield from _flags()


def _case(good: str, name: str, damage: Damage, *, exact: bool = True) -> Case:
    exact = exact and good in ("policy", "data", "part", "video")
    return Case(f"{good}: {name}", good, damage, WORDS[good], exact)


# ── files made with care ──────────────────────────────────────────────


def _table(pattern: str, change: Callable[[pa.Table], pa.Table]) -> Damage:
    def damage(folder: Path) -> None:
        file = sorted(folder.glob(pattern))[0]
        changed = change(pq.read_table(file))
        file.unlink()
        pq.write_table(changed, file)

    return damage


def _column(name: str, kind: pa.DataType, values: Callable[[int], Any]) -> Any:
    def change(table: pa.Table) -> pa.Table:
        at = table.schema.get_field_index(name)
        column = pa.array(values(len(table)), kind)
        return table.set_column(at, pa.field(name, kind), column)

    return change


def _without(name: str) -> Any:
    return lambda table: table.drop_columns([name])


def _meta(text: str) -> Any:
    return lambda table: table.replace_schema_metadata({b"policyscope": text.encode()})


def _stamp(horizon: int) -> str:
    pair = ["a", "b"]
    stamp = {"space": "native", "horizon": horizon, "action_dim": 2, "units": pair, "names": pair}
    return json.dumps(stamp)


_LAYOUT = (
    '{"n_frames": 1e30, "stride": 0, "width": -1, "height": "x", "columns": 0, "rows": 0, '
    '"sheets": 1}'
)


def _bomb(pattern: str) -> Damage:
    def damage(folder: Path) -> None:
        file = sorted(folder.glob(pattern))[0]
        rewrite(file, (folder.parent / "bomb.parquet").read_bytes())

    return damage


def _crafted() -> Iterator[tuple[str, str, Damage]]:
    int64, text = pa.int64(), pa.string()
    tables: dict[tuple[str, str], dict[str, Any]] = {
        ("data", "meta/episodes/*/*.parquet"): {
            "length without column": _without("length"),
            "length negative": _column("length", int64, lambda n: [-1] * n),
            "length huge": _column("length", int64, lambda n: [2**62] * n),
            "length null": _column("length", int64, lambda n: [None] * n),
            "length as text": _column("length", text, lambda n: ["x"] * n),
            "tasks without column": _without("tasks"),
            "episode_index twice": _column("episode_index", int64, lambda n: [0] * n),
            "data file index huge": _column("data/file_index", int64, lambda n: [2**40] * n),
            "no rows": lambda table: table.slice(0, 0),
        },
        ("data", "meta/tasks.parquet"): {
            "no rows": lambda table: table.slice(0, 0),
            "index as text": _column("task_index", text, lambda n: ["x"] * n),
            "index null": _column("task_index", int64, lambda n: [None] * n),
            "index without column": _without("task_index"),
        },
        ("data", "data/*/*.parquet"): {
            "action without column": _without("action"),
            "action null": _column("action", pa.list_(pa.float32()), lambda n: [None] * n),
            "action NaN": _column(
                "action", pa.list_(pa.float32()), lambda n: [[float("nan")] * 2] * n
            ),
            "action ragged": _column(
                "action", pa.list_(pa.float32()), lambda n: [[1.0] * (1 + i % 3) for i in range(n)]
            ),
            "action as text": _column("action", text, lambda n: ["x"] * n),
            "task_index outside": _column("task_index", int64, lambda n: [99] * n),
            "task_index null": _column("task_index", int64, lambda n: [None] * n),
            "episode_index null": _column("episode_index", int64, lambda n: [None] * n),
            "timestamp null": _column("timestamp", pa.float32(), lambda n: [None] * n),
            "timestamp NaN": _column("timestamp", pa.float32(), lambda n: [float("nan")] * n),
            "no rows": lambda table: table.slice(0, 0),
        },
        ("run", "predictions.parquet"): {
            "no metadata": lambda table: table.replace_schema_metadata(None),
            "metadata no JSON": _meta("{"),
            "metadata a list": _meta("[]"),
            "metadata deep": _meta("[" * 10_000),
            "metadata of another horizon": _meta(_stamp(5)),
            "metadata huge": _meta(_stamp(10**12)),
            "metadata normalized": _meta('{"space": "normalized", "horizon": 6, "action_dim": 2}'),
            "predicted without column": _without("predicted"),
            "predicted ragged": _column(
                "predicted", pa.list_(pa.float64()), lambda n: [[1.0] * (i % 5) for i in range(n)]
            ),
            "predicted null": _column("predicted", pa.list_(pa.float64()), lambda n: [None] * n),
            "predicted NaN": _column(
                "predicted", pa.list_(pa.float64()), lambda n: [[float("nan")] * 12] * n
            ),
            "predicted inf": _column(
                "predicted", pa.list_(pa.float64()), lambda n: [[float("inf")] * 12] * n
            ),
            "sample negative": _column("sample", int64, lambda n: [-1] * n),
            "sample huge": _column("sample", int64, lambda n: [2**40] * n),
            "sample null": _column("sample", int64, lambda n: [None] * n),
            "frame_index huge": _column(
                "frame_index", int64, lambda n: [2**40 + i for i in range(n)]
            ),
            "frame_index falls": _column("frame_index", int64, lambda n: list(range(n, 0, -1))),
            "episode_index of another": _column("episode_index", int64, lambda n: [77] * n),
            "no rows": lambda table: table.slice(0, 0),
        },
        ("run", "clips.parquet"): {
            "sheets no pictures": _column(
                "sheets", pa.list_(pa.large_binary()), lambda n: [[b"<script>"]] * n
            ),
            "layout no JSON": _column("layout", text, lambda n: ["{"] * n),
            "layout a list": _column("layout", text, lambda n: ["[]"] * n),
            "layout of other names": _column("layout", text, lambda n: ['{"a": 1}'] * n),
            "layout huge": _column(
                "layout",
                text,
                lambda n: [_LAYOUT] * n,
            ),
            "camera null": _column("camera", text, lambda n: [None] * n),
            "no column": _without("layout"),
        },
        ("rollout", "steps.parquet"): {
            "no metadata": lambda table: table.replace_schema_metadata(None),
            "metadata a list": _meta("[]"),
            "metadata of another dim": _meta('{"action_dim": 3, "horizon": 6}'),
            "reward without column": _without("reward"),
            "reward null": _column("reward", pa.float64(), lambda n: [None] * n),
            "action ragged": _column(
                "action", pa.list_(pa.float64()), lambda n: [[1.0] * (i % 5) for i in range(n)]
            ),
            "no rows": lambda table: table.slice(0, 0),
        },
        ("rollout", "predictions.parquet"): {
            "frame_index without column": _without("frame_index"),
            "predicted ragged": _column(
                "predicted", pa.list_(pa.float64()), lambda n: [[1.0] * (i % 5) for i in range(n)]
            ),
            "frame_index huge": _column("frame_index", int64, lambda n: [2**40] * n),
        },
        ("part", "parts/episode-*.parquet"): {
            "no metadata": lambda table: table.replace_schema_metadata(None),
            "another episode's": _column("episode_index", int64, lambda n: [5] * n),
            "fewer rows": lambda table: table.slice(0, 2),
            "predicted NaN": _column(
                "predicted", pa.list_(pa.float64()), lambda n: [[float("nan")] * 12] * n
            ),
            "predicted of another": _column(
                "predicted", pa.list_(pa.float64()), lambda n: [[1e3] * 12] * n
            ),
        },
    }
    for good, names in _FILES.items():
        for name in names:
            if name.endswith(".parquet"):
                yield good, f"{name}: a bomb", _bomb(name)
    for (good, pattern), changes in tables.items():
        for name, change in changes.items():
            yield good, f"{pattern}: {name}", _table(pattern, change)
    yield "part", "parts: a part under another's name", _swap
    yield "part", "parts: a part of another run", _foreign
    yield "part", "parts: a name that is no number", _misnamed
    yield "part", "batch_size.json: a list", lambda f: _write(f / "parts/batch_size.json", b"[1]")
    yield "part", "rows: pickled", _pickled


def _write(file: Path, content: bytes) -> None:
    file.unlink(missing_ok=True)
    file.write_bytes(content)


def _swap(folder: Path) -> None:
    first = sorted(folder.glob("parts/episode-*.parquet"))[0]
    _write(first.with_name("episode-000999.parquet"), first.read_bytes())


def _foreign(folder: Path) -> None:
    first = sorted(folder.glob("parts/episode-*.parquet"))[0]
    rewrite(first, (folder.parent / "other_part.parquet").read_bytes())


def _misnamed(folder: Path) -> None:
    (folder / "parts/episode-x.parquet").write_bytes(b"")


def _pickled(folder: Path) -> None:
    import numpy as np

    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (folder.parent / "ran",)

    with (folder / "parts/rows-000000000.npz").open("wb") as file:
        np.savez(file, values=np.array([Evil()], dtype=object), seconds=[0.0], units=["px"])


# ── flags ─────────────────────────────────────────────────────────────

_TEXTS = (
    "",
    " ",
    "nan",
    "inf",
    "-1",
    "1e9",
    "99999999999999999999",
    "\x1b[31m",
    "é\u202e",
    "\udcff",
)

_FLAGS: dict[tuple[str, ...], dict[str, tuple[str, ...]]] = {
    CHECK_DATA: {
        "--dataset.episodes": (
            *_TEXTS,
            "0:99999999999999",
            "0:9999999999999999999999:1",
            "::0",
            "::-1",
            "5:1",
            "1:2:3:4",
            "0," * 10_000,
            "٣",
            "²",
        ),
        "--action_dims": (*_TEXTS, "0,0", "0,1,2", "²", "9" * 5000),
        "--n_action_steps": _TEXTS,
        "--frames": _TEXTS,
        "--rename_map": (*_TEXTS, "[" * 10_000, "[]", '{"a": 1}', '{"a": {"b": 1}}', '{"a": null}'),
        "--dataset.root": (*_TEXTS, "/", "/dev/null", "/proc/self/mem", "x" * 5000, "a\x00b"),
        "--dataset.repo_id": ("", "../../etc", "a/b/c", "x" * 5000, "a\x00b", "\x1b[31m"),
        "--dataset.action_units": (*_TEXTS, "px,px,px", "," * 1000),
        "--policy.type": _TEXTS,
        "--device": ("cuda:99", "tpu", ""),
        "--stats": ("", "mine"),
    },
    EVAL_DATA: {
        "--max_frames": _TEXTS,
        "--stride": (*_TEXTS, "0", "9" * 5000),
        "--samples": (*_TEXTS, "100000000", "0"),
        "--batch_size": (*_TEXTS, "0", "²", "9" * 5000),
        "--policy.chunk_size": (*_TEXTS, "0", "1000000000000"),
        "--seed": _TEXTS,
        "--latency_calls": ("-1", "nan"),
        "--output_dir": ("", "/dev/null", "/proc/nothing", "x" * 5000, "a\x00b", "\udcff/\x1b[31m"),
        "--report.episodes": ("0:99999999999999", "x", "99", ""),
        "--lang": ("xx", ""),
    },
    ("report", "{run}", "--output", "{out}.html"): {
        "--report.episodes": (*_TEXTS, "0:99999999999999", "99", "1"),
        "--lang": ("xx",),
    },
    (*ROLLOUT, "--output_dir", "{out}"): {
        "--n_episodes": (*_TEXTS, "100000000000"),
        "--n_envs": (*_TEXTS, "0", "²", "1000000000"),
        "--env.settings": (*_TEXTS, "[" * 10_000, '{"size": 1000000000}', '{"size": -1}'),
        "--env.task": ("", "no:such/Env-v0", "x" * 5000, "../../x:y", "os:system"),
        "--env.type": ("", "nothing", "../x"),
        "--env.timeout_s": ("nan", "-1", "0", "inf"),
        "--video": ("²", "-1", "1e9"),
        "--record": ("/dev/null", "{data}", "{policy}"),
        "--seed": ("-1", "99999999999999999999", "nan"),
    },
    ("report",): {
        "{}": (
            "/",
            "/dev/null",
            "/dev/zero",
            "",
            "x" * 5000,
            "a\x00b",
            "\udcff",
            "{data}",
            "{policy}",
        ),
    },
    ("check", "--dataset.root", "{data}", *_DATA): {
        "--policy.path": (
            "/",
            "/dev/zero",
            "",
            "~",
            "x" * 5000,
            "a\x00b",
            "\udcff",
            "{data}",
            "{run}",
        ),
        "--policy.revision": ("../../x",),
    },
    ("bench", "--policy.type", "hold_state", "--dataset.root", "{data}", *_DATA): {
        "--batch_sizes": (*_TEXTS, "²", "1000000000000", "9" * 5000),
        "--dtypes": ("", "float64", "float32,"),
        "--calls": _TEXTS,
        "--output_dir": ("/dev/null", "/proc/nothing", "x" * 5000, "a\x00b"),
    },
    (): {"": ("fly", "--nonsense", "\x1b[31m", "\udcff", "x" * 100_000, "[" * 10_000)},
}


def _flags() -> Iterator[Case]:
    for words, flags in _FLAGS.items():
        for flag, values in flags.items():
            for value in values:
                at = words.index(flag) if flag in words else len(words)
                kept = (*words[:at], *words[at + 2 :])
                given = (value,) if flag in ("", "{}") else (f"{flag}={value}",)
                name = f"{' '.join(words[:1])} {flag} {value[:40]!r}"
                yield Case(name, "", lambda _: None, (*kept, *given))
