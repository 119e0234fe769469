"""The figures of docs/offline-vs-success.md, from the stored records, by scipy alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

ROOT = Path(__file__).parents[1]
STUDY = ROOT / "benchmarks" / "study"
PAGE = (ROOT / "docs" / "offline-vs-success.md").read_text(encoding="utf-8")


def records(kind: str) -> dict[str, dict[str, Any]]:
    """Name of a checkpoint → its record."""
    files = sorted(STUDY.glob(f"{kind}-*/run.json"))
    return {f.parent.name.removeprefix(f"{kind}-"): json.loads(f.read_text()) for f in files}


@pytest.fixture(scope="module")
def pairs() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    offline, rollouts = records("eval"), records("rollout")
    assert offline.keys() == rollouts.keys()
    both = [(offline[name], rollouts[name]) for name in offline]
    assert all(a["policy"]["sha256"] == b["policy"]["sha256"] for a, b in both)
    return both


def skill(record: dict[str, Any]) -> float:
    return min(known["executed"]["value"] for known in record["skill"].values())


def error(record: dict[str, Any]) -> float:
    return -float(record["summary"]["executed"]["nmae"]["value"])


@pytest.mark.parametrize(("name", "of"), [("executed.skill", skill), ("executed.nmae", error)])
def test_rank_correlations_are_those_of_the_page(pairs: Any, name: str, of: Any) -> None:
    section = PAGE.split("### success rate, all ")[1]
    row = next(line for line in section.splitlines() if line.startswith(f"| `{name}` |"))
    pearson, spearman = (cell.split()[0] for cell in row.split("|")[3:5])
    scores = [of(a) for a, _ in pairs]
    rates = [sum(e["success"] for e in b["episodes"]) / len(b["episodes"]) for _, b in pairs]
    assert float(spearman) == pytest.approx(stats.spearmanr(scores, rates).statistic, abs=0.006)
    assert float(pearson) == pytest.approx(stats.pearsonr(scores, rates).statistic, abs=0.006)


def test_the_page_counts_them(pairs: Any) -> None:
    most = max(sum(e["success"] for e in b["episodes"]) for _, b in pairs)
    assert f"over {len(pairs)} checkpoints" in PAGE
    assert f"0 to {most} successes in 200 seeds" in PAGE


def test_stored_records_are_bare() -> None:
    for file in STUDY.glob("*/run.json"):
        text = file.read_text(encoding="utf-8")
        assert '"/' not in text, f"{file}: a path of the machine"
    assert sum(f.stat().st_size for f in STUDY.glob("*/*")) < 5_000_000
