"""A verdict says no more than its test."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyscope.metrics.verdicts import (
    Decision,
    Margin,
    Test,
    Verdict,
    decide,
    holm,
    leading,
    not_comparable,
)

tests = st.builds(
    Test,
    name=st.just("any"),
    p=st.none() | st.floats(0, 1),
    smallest_p=st.floats(0, 1),
    favours=st.sampled_from((-1, 0, 1)),
)
margins = st.none() | st.builds(Margin, cleared=st.booleans(), could_clear=st.booleans())


@given(tests, margins, st.none() | st.floats(0, 1))
def test_better_and_worse_only_where_the_test_rejected(
    test: Test, margin: Margin | None, adjusted: float | None
) -> None:
    if adjusted is not None and test.p is not None:
        adjusted = max(adjusted, test.p)
    known = decide(test, margin=margin, adjusted_p=adjusted if test.p is not None else None)
    if known.verdict in (Verdict.BETTER, Verdict.WORSE):
        assert known.p is not None
        assert known.p <= 0.05
        assert test.smallest_p <= 0.05
        assert test.favours == (1 if known.verdict is Verdict.BETTER else -1)
    if known.verdict is Verdict.NO_WORSE:
        assert margin is not None
        assert margin.cleared
        assert margin.could_clear
    if margin is None:
        assert known.verdict is not Verdict.NO_WORSE


@pytest.mark.parametrize(
    ("p", "smallest", "favours"), [(0.2, 0.0, 1), (0.01, 0.06, 1), (0.01, 0.0, -1), (None, 0.0, 1)]
)
def test_no_claim_can_be_made_by_hand(p: float | None, smallest: float, favours: int) -> None:
    with pytest.raises(ValueError, match="better"):
        Decision(Verdict.BETTER, "rejected", Test("any", p, smallest, favours), p)  # type: ignore[arg-type]


def test_why_nothing_is_decided() -> None:
    few = Test("any", 0.25, 0.25, 1)
    assert decide(few).reason == "could_not_reject"
    assert decide(few, margin=Margin(cleared=False, could_clear=True)).reason == "not_rejected"
    assert decide(Test("any", 0.25, 0.0, 1)).reason == "not_rejected"
    assert decide(Test("any", None, 0.0, 1)).reason == "no_test"
    assert not_comparable().verdict is Verdict.NOT_COMPARABLE


def test_holm_agrees_with_statsmodels(monkeypatch: pytest.MonkeyPatch) -> None:
    multi = pytest.importorskip("statsmodels.stats.multitest")
    monkeypatch.setattr("gc.collect", lambda *_: 0)  # it collects at each call, for seconds
    draw = np.random.default_rng(0)
    for _ in range(200):
        p = draw.beta(0.3, 1.0, size=int(draw.integers(1, 12))).round(2)
        assert holm(list(p)) == pytest.approx(multi.multipletests(p, method="holm")[1])


def test_leading_runs_agree_with_robostats() -> None:
    """Up to five policies on the same seeds, pairwise by McNemar's exact test."""
    robostats = pytest.importorskip("robostats")
    from policyscope.metrics.proportions import Pairs, paired_rates

    draw = np.random.default_rng(1)
    sizes = set[int]()
    for _ in range(200):
        k, n = int(draw.integers(2, 6)), int(draw.integers(8, 60))
        outcomes = draw.random((k, n)) < draw.beta(1.0, 1.0, size=(k, 1))
        known = leading(
            k,
            {
                (i, j): paired_rates(Pairs.of(outcomes[i], outcomes[j])).test
                for j in range(k)
                for i in range(j)
            },
        )
        records = [
            robostats.RecordSet(
                [
                    robostats.EpisodeRecord(
                        policy_id=f"p{i}", task_id="t", scenario_id=str(s), success=bool(x)
                    )
                    for s, x in enumerate(row)
                ]
            )
            for i, row in enumerate(outcomes)
        ]
        theirs = robostats.indistinguishable_set(robostats.align(*records))
        assert known == tuple(theirs.members)
        sizes.add(len(known))
    assert len(sizes) > 2  # the tables were not all alike
