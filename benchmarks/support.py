"""What runs with what: each policy type on each kind of dataset, tried, not claimed.

    python benchmarks/support.py --output docs/support.md --readme README.md
    python benchmarks/support.py --real DATASETS …      also pusht, g1, aloha-… below DATASETS

Networks are tiny, with random weights, written by lerobot's own classes (`tests/fakes.py`): what is
tried is that files open, inputs fit, chunks come back in native units and agree however they are
batched. Seconds are of that on the machine that ran it, opening included; they order cells, and are
no benchmark.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import fakes
from policyscope.commands.evaluate import evaluate
from policyscope.commands.rollout import rollout
from policyscope.config import EnvConfig, PolicyConfig, RolloutConfig
from policyscope.errors import InputError
from policyscope.policies.kinds import VOUCHED, kind_of
from policyscope.runs.directory import RunDirectory

IMAGE, WRIST = fakes.IMAGE, "observation.images.wrist"
SIDE = 96  # PushT's
ROOMY: dict[str, dict[str, Any]] = {
    "xvla": {"max_action_dim": 32, "max_state_dim": 32, "max_len_seq": 512},
    "pi0": {"max_action_dim": 32, "max_state_dim": 32},
    "pi05": {"max_action_dim": 32, "max_state_dim": 32, "tokenizer_max_length": 256},
}
REFUSED = ("gaussian_actor", "groot", "pi0_fast", "wall_x")
AGREE = 1e-4  # of the actions' range: batched against alone


@dataclass(frozen=True)
class Data:
    """A dataset, and what a policy of it is like."""

    name: str
    root: Path
    action_dim: int = 2
    state_dim: int = 2
    cameras: dict[str, int | tuple[int, int]] = field(default_factory=lambda: {IMAGE: SIDE})
    real: bool = False


Act = Callable[[Path, Data, Path], str]


@dataclass(frozen=True)
class Cell:
    """What came of one."""

    ok: bool | None
    text: str
    why: str = ""


def built(where: Path) -> list[Data]:
    """One small dataset of each kind."""
    write = fakes.write_dataset
    lengths = (9, 12, 7)
    common: dict[str, Any] = {"size": SIDE, "lengths": lengths}
    two = {IMAGE: SIDE, WRIST: SIDE}
    return [
        Data("pictures", write(where / "pictures", **common)),
        Data("videos", write(where / "videos", video=True, **common)),
        Data("two cameras", write(where / "two", cameras=tuple(two), **common), cameras=two),
        Data("no camera", write(where / "none", cameras=(), **common), cameras={}),
        Data("wider state", write(where / "wide", dim=3, state_dim=5, **common), 3, 5),
        Data("several tasks", write(where / "tasks", tasks=("push", "hold still"), **common)),
    ]


def real(where: Path) -> list[Data]:
    """Public datasets, as far as they are there."""
    found = []
    for name in ("pusht", "g1", "aloha-sim-transfer-cube"):
        root = where / name
        if not (root / "meta/info.json").is_file():
            continue
        features = json.loads((root / "meta/info.json").read_text())["features"]
        cameras = {k: tuple(f["shape"][:2]) for k, f in features.items() if f["dtype"] == "video"}
        dims = [features[key]["shape"][0] for key in ("action", fakes.STATE)]
        found.append(Data(name, root, *dims, cameras=cameras, real=True))  # type: ignore[arg-type]
    return found


def policy(where: Path, kind: str, data: Data) -> Path:
    """A tiny policy for a dataset."""
    path = where / kind / data.name.replace(" ", "-")
    if not path.exists():
        fakes.write_policy(
            path,
            data.root,
            kind,
            cameras=data.cameras,
            action_dim=data.action_dim,
            state_dim=data.state_dim,
            **ROOMY.get(kind, {}),
        )
    return path


def offline(path: Path, data: Data, out: Path, **settings: Any) -> np.ndarray:
    """The predicted chunks of a few frames of the second episode: [frames, H, A]."""
    settings = {"episodes": "1", "max_frames": 6, "batch_size": "4", "execute": "none", **settings}
    units = {} if data.real else {"action_units": "px"}
    evaluate(fakes.config_for(data.root, path, out, **units, **settings))
    return np.concatenate([e.predicted[0].values for e in RunDirectory(out).stored()])


def batched(path: Path, data: Data, out: Path) -> str:
    """Alone and four at a time: the same chunks."""
    one, four = (offline(path, data, out / n, batch_size=n) for n in ("1", "4"))
    apart = float(np.abs(one - four).max() / max(np.ptp(four), 1e-12))
    if apart > AGREE:
        raise ValueError(f"batched and alone differ by {apart:.1g} of the range")
    return f"{apart:.0e} apart" if apart else "equal"


def samples(path: Path, data: Data, out: Path) -> str:
    """Three predictions of each frame."""
    evaluate(fakes.config_for(data.root, path, out, samples=3, episodes="1", max_frames=4))
    (stored,) = RunDirectory(out).stored()
    spread = np.ptp(np.stack([one.values for one in stored.predicted]), axis=0).max()
    if not spread > 0:
        raise ValueError("three samples, one prediction")
    return ""


def ablated(path: Path, data: Data, out: Path) -> str:
    """Asked again with inputs of another episode."""
    config = fakes.config_for(data.root, path, out, ablate=True, ablate_frames=8)
    known = evaluate(config).record.ablation
    if known is None:
        raise ValueError("no ablation in the record")
    return f"{len(known.inputs)} inputs"


def simulated(path: Path, _: Data, out: Path) -> str:
    """Two short games of PushT."""
    config = RolloutConfig(
        policy=PolicyConfig(path=str(path)),
        env=EnvConfig(type="pusht", episode_length=12),
        n_episodes=2,
        n_envs="2",
        device="cpu",
        video="none",
        latency_calls=0,
        output_dir=str(out),
    )
    rows = rollout(config).record.episodes
    return f"{sum(row.steps or 0 for row in rows)} steps"


def tried(attempt: Callable[[], str]) -> Cell:
    """Green with its seconds, or red with the first line of why."""
    start = time.perf_counter()
    try:
        note = attempt()
    except Exception as error:  # whatever stops it is the answer
        said = error.found if isinstance(error, InputError) else str(error)
        line = next(iter(said.strip().splitlines()), type(error).__name__)
        line = re.sub(r"^\w+Error: ", "", re.sub(r"(/[\w.-]+){2,}/", "…/", line))
        return Cell(False, "✗", line.partition(". ")[0].rstrip(".")[:160])
    seconds = f"{time.perf_counter() - start:.1f} s"
    return Cell(True, f"{seconds}, {note}" if note else seconds)


def run(where: Path, sets: list[Data], kinds: tuple[str, ...]) -> tuple[Any, Any]:
    """Two tables: type × dataset, and type × what is done on the first dataset."""
    on_data: dict[str, dict[str, Cell]] = {}
    doing: dict[str, dict[str, Cell]] = {}
    out = where / "o"
    for kind in kinds:
        on_data[kind], doing[kind] = {}, {}

        for data in sets:
            place = out / kind / data.name
            cell = tried(partial(_do, _plain, where / "p", kind, data, place))
            on_data[kind][data.name] = _said(kind, data.name, cell)
        first = sets[0]
        for name, act in (
            ("closed loop", simulated),
            ("batched", batched),
            ("samples", samples),
            ("ablation", ablated),
        ):
            if name == "samples" and kind_of(kind).draws == "none":
                doing[kind][name] = Cell(None, "–", "")
                continue

            doing[kind][name] = _said(
                kind, name, tried(partial(_do, act, where / "p", kind, first, out / kind / name))
            )
        shutil.rmtree(out / kind, ignore_errors=True)
    return on_data, doing


def _do(act: Act, policies: Path, kind: str, data: Data, out: Path) -> str:
    return act(policy(policies, kind, data), data, out)


def _plain(path: Path, data: Data, out: Path) -> str:
    offline(path, data, out)
    return ""


def _said(kind: str, name: str, cell: Cell) -> Cell:
    print(f"{kind:15} {name:24} {cell.text} {cell.why}", file=sys.stderr, flush=True)
    return cell


def refusals(where: Path, data: Data) -> dict[str, Cell]:
    """Types that lerobot opens by running code of a repository."""
    config = policy(where / "p", "act", data)
    found = {}
    for kind in REFUSED:
        path = where / "refused" / kind
        shutil.copytree(config, path)
        content = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps({**content, "type": kind}))
        found[kind] = tried(lambda p=path, k=kind: str(offline(p, data, where / "r" / k)))
    return found


def table(rows: dict[str, dict[str, Cell]], notes: list[str]) -> list[str]:
    """A Markdown table; red cells point to their notes."""
    columns = list(next(iter(rows.values())))
    lines = ["| type | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for kind, cells in rows.items():
        shown = []
        for cell in cells.values():
            if cell.ok is False:
                if cell.why not in notes:
                    notes.append(cell.why)
                shown.append(f"✗ {notes.index(cell.why) + 1}")
            else:
                shown.append(f"✓ {cell.text}" if cell.ok else cell.text)
        lines.append(f"| `{kind}` | " + " | ".join(shown) + " |")
    return lines


def page(on_data: Any, doing: Any, refused: dict[str, Cell], command: str) -> str:
    """docs/support.md."""
    notes: list[str] = []
    packages = ("lerobot", "torch", "transformers", "diffusers", "numpy")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    lines = [
        "# What runs with what",
        "",
        f"Made by `{command}`: every cell was run.",
        "Networks are tiny, of lerobot's own classes, with random weights: what is tried is that",
        "files open, inputs fit, and chunks come back in native units. Seconds include opening;",
        "they order cells and are no benchmark.",
        "",
        f"policyscope {version('policyscope')}, {versions},",
        f"Python {platform.python_version()}, CPU.",
        "",
        "## Offline, by kind of dataset",
        "",
        *table(on_data, notes),
        "",
        "## What else is done, on pictures",
        "",
        "Closed loop: two games of PushT, twelve steps each. Batched: the same frames alone and",
        f"four at a time, at most {AGREE:g} of the actions' range apart. Samples: three a frame,",
        "which differ; – where the type draws nothing. Ablation: asked again with inputs of",
        "another episode.",
        "",
        *table(doing, notes),
        "",
        "## Refused",
        "",
        "| type | why |",
        "|---|---|",
        *(
            f"| `{kind}` | {cell.why.replace('such code', 'code of a checkpoint')} |"
            for kind, cell in refused.items()
        ),
        "",
        "Types of installed plug-ins (`lerobot_policy_…`) are refused until `--force` says that",
        "their numbers are to be computed at one's own risk.",
        "",
    ]
    if notes:
        said = "In the words of lerobot's own classes, which do without such inputs alone."
        lines += [
            "## Why not",
            "",
            said,
            "",
            *(f"{i + 1}. {note}" for i, note in enumerate(notes)),
            "",
        ]
    return "\n".join(lines)


def summary(on_data: Any, doing: Any) -> str:
    """What the README shows: a mark a cell."""
    rows = {kind: {**on_data[kind], **doing[kind]} for kind in on_data}
    columns = list(next(iter(rows.values())))
    lines = ["| | " + " | ".join(columns) + " |", "|---|" + ":-:|" * len(columns)]
    for kind, cells in rows.items():
        marks = [{True: "✓", False: "✗", None: "–"}[cell.ok] for cell in cells.values()]
        lines.append(f"| `{kind}` | " + " | ".join(marks) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", default="docs/support.md")
    parser.add_argument("--readme", nargs="*", default=[], help="files with the two markers")
    parser.add_argument("--real", help="a folder with public datasets")
    parser.add_argument("--types", default=",".join(VOUCHED))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as holder, fakes.small_pi():
        where = Path(holder)
        sets = built(where / "d") + (real(Path(args.real)) if args.real else [])
        on_data, doing = run(where, sets, tuple(args.types.split(",")))
        refused = refusals(where, sets[0])
    command = "python benchmarks/support.py" + (" --real DATASETS" if args.real else "")
    Path(args.output).write_text(page(on_data, doing, refused, command), encoding="utf-8")
    for name in args.readme:
        text = Path(name).read_text(encoding="utf-8")
        begin, end = "<!-- support -->\n", "\n<!-- /support -->"
        head, rest = text.split(begin)
        Path(name).write_text(
            head + begin + summary(on_data, doing) + end + rest.split(end)[1], encoding="utf-8"
        )


if __name__ == "__main__":
    main()
