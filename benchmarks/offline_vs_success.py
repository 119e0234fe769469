"""Which offline number foretells success: the study of docs/offline-vs-success.md.

python benchmarks/offline_vs_success.py --take RUNS …    # keep the records of runs, small and bare
python benchmarks/offline_vs_success.py                  # prints Markdown, a minute
python benchmarks/offline_vs_success.py --write          # into the page, between its two markers

RUNS holds run directories of each checkpoint, `eval-NAME` or `NAME` and `rollout-NAME`. Of each run
only its record is kept, without paths of the machine, in `benchmarks/study/`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from policyscope.commands.correlate import correlate
from policyscope.config import CorrelateConfig
from policyscope.files import write_text
from policyscope.runs.content import Complete, OfflineRecord
from policyscope.runs.directory import RECORD
from policyscope.runs.record import dump_record, read_complete
from policyscope.runs.values import Latency
from policyscope.views.correlated.files import study_markdown

HERE = Path(__file__).parent
STUDY = HERE / "study"
PAGE = HERE.parent / "docs" / "offline-vs-success.md"
PICTURE = HERE.parent / "docs" / "offline-vs-success.png"
MARKERS = ("<!-- results -->", "<!-- end of results -->")
STEPWISE = "tdmpc"  # whose chunks have one step
_MOST = 5_000_000  # bytes of all records


def take(folders: list[Path]) -> int:
    """Keep the records of checkpoints that have both kinds of runs; returns their bytes."""
    kept: dict[str, dict[str, str]] = {"eval": {}, "rollout": {}}
    for file in sorted(file for folder in folders for file in folder.glob(f"*/{RECORD}")):
        name = file.parent.name.removeprefix("eval-").removeprefix("rollout-")
        record = bare(read_complete(file.parent), name)
        kept["eval" if isinstance(record, OfflineRecord) else "rollout"][name] = dump_record(record)
    both = kept["eval"].keys() & kept["rollout"].keys()
    size = sum(len(texts[name].encode()) for texts in kept.values() for name in both)
    if size > _MOST:
        raise SystemExit(f"{size:,} bytes of records; at most {_MOST:,} are kept")
    for kind, texts in kept.items():
        for name in sorted(both):
            write_text(STUDY / f"{kind}-{name}" / RECORD, texts[name])
    return size


def bare(record: Complete, name: str) -> Complete:
    """A record that names no place on the machine where it was made, and holds no samples."""
    made = "eval" if isinstance(record, OfflineRecord) else "rollout"
    environment = record.environment.model_copy(update={"command_line": ["policyscope", made]})
    known = {
        "environment": environment,
        "policy": record.policy.model_copy(update={"path": name}),
        "dataset": record.dataset.model_copy(update={"root": None}),
        "latency": _without_samples(record.latency),
    }
    if not isinstance(record, OfflineRecord):
        rows = [row.model_copy(update={"video": None}) for row in record.episodes]
        known["episodes"] = rows
        if record.imported is not None:
            source = f"{name}/{Path(record.imported.source).name}"
            known["imported"] = record.imported.model_copy(update={"source": source})
    return record.model_copy(update=known)


def _without_samples(latency: Latency | None) -> Latency | None:
    if latency is None:
        return None
    kinds = ("model_call", "queue_pop", "end_to_end")
    times = {kind: getattr(latency, kind) for kind in kinds}
    return latency.model_copy(
        update={
            kind: None if known is None else known.model_copy(update={"samples_ms": ()})
            for kind, known in times.items()
        }
    )


def results() -> str:
    """What the stored runs show; the picture is drawn, too."""
    study = correlate(CorrelateConfig((str(STUDY),), picture=str(PICTURE)))
    picture = f"![Offline numbers against success]({PICTURE.name})"
    return f"{picture}\n\n{study_markdown(study)}\n{seams(study.missing)}"


def seams(missing: Sequence[str]) -> str:
    """The numbers that policies of one step a chunk lack, over the other types."""
    runs = [str(folder) for folder in sorted(STUDY.iterdir()) if STEPWISE not in folder.name]
    study = correlate(CorrelateConfig(tuple(runs)))
    lines = [f"### What needs chunks of several steps: the types but {STEPWISE}"]
    for section in study_markdown(study).split("\n### ")[1:]:
        title, *rest = section.splitlines()
        rows = [line for line in rest if line.startswith("|")]
        chosen = [row for row in rows if row.split("|")[1].strip().strip("`") in missing]
        if chosen:
            lines += ["", f"{title[0].upper()}{title[1:]}:", "", *rows[:2], *chosen]
    return "\n".join(lines) + "\n"


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--take", type=Path, nargs="+")
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    if asked.take is not None:
        print(f"{take(asked.take):,} bytes in {STUDY}")
        return
    text = results()
    if not asked.write:
        print(text, end="")
        return
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(MARKERS[0])
    after = rest.partition(MARKERS[1])[2]
    write_text(PAGE, f"{before}{MARKERS[0]}\n\n{text}\n{MARKERS[1]}{after}")


if __name__ == "__main__":
    main()
