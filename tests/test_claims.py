"""What is said of a policy: only what its intervals allow, in both languages, everywhere alike."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from html import unescape
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import fakes
from policyscope.commands.evaluate import evaluate
from policyscope.commands.report import ReportConfig, render
from policyscope.config import DatasetConfig, EvalConfig, PolicyConfig
from policyscope.metrics.proportions import at_most
from policyscope.metrics.samples import sample_scores, sample_sums
from policyscope.metrics.standing import standing
from policyscope.runs.content import OfflineRecord
from policyscope.runs.record import read_record
from policyscope.runs.rows import DimRow
from policyscope.runs.values import Value
from policyscope.views.language import Say, english, speaker
from policyscope.views.offline.claims import claims, headline, rivals
from policyscope.views.offline.table import run_table
from policyscope.views.offline.words import sample_lines, worst_dims
from policyscope.views.words import number, ratio, share

Interval = tuple[float | None, float | None, float | None]
ZH = speaker("zh")


@pytest.fixture(scope="module")
def plain(data: Path, tmp_path_factory: pytest.TempPathFactory) -> OfflineRecord:
    out = tmp_path_factory.mktemp("claims") / "o"
    return evaluate(fakes.config_for(data, "hold_state", out)).record


def told(
    record: OfflineRecord,
    trivial: Mapping[str, Interval],
    *,
    blind: Mapping[str, Interval] | None = None,
    steps: Sequence[bool] = (),
    who: str = "smolvla",
) -> OfflineRecord:
    """A run with these executed skills; of a baseline the weaker the higher the skill against it.

    Args:
        record: whatever the run says otherwise.
        trivial: baseline → skill with its interval.
        blind: the same of those that learn.
        steps: whether each horizon step is better than every baseline.
        who: the policy; weights it has unless it is a baseline.
    """

    def skills(known: Mapping[str, Interval], old: Mapping[str, Any]) -> dict[str, Any]:
        new = {}
        for name, (value, low, high) in known.items():
            shown = Value(value=value, ci_low=low, ci_high=high, n_episodes=21, n_frames=99)
            new[name] = old[name].model_copy(update={"executed": shown})
        return new

    def errors(known: Mapping[str, Interval], old: Mapping[str, Any]) -> dict[str, Any]:
        new = {}
        for name, (value, _, _) in known.items():
            mse = Value(
                value=0.0 if value is None else 100 / (1 - value),
                ci_low=None,
                ci_high=None,
                n_episodes=21,
                n_frames=99,
            )
            executed = old[name].executed.model_copy(update={"mse": mse, "nmse": mse})
            new[name] = old[name].model_copy(update={"executed": executed})
        return new

    rows = []
    for row, won in zip(record.by_horizon, steps or [False] * 16, strict=False):
        rows.append(row.beside({f"skill_{n}_ci_low": 0.1 if won else -0.1 for n in trivial}))
    seen = record.blind
    assert seen is not None
    new = None
    if blind is not None:
        every = dict.fromkeys(seen.skill, (0.9, 0.8, 0.95)) | dict(blind)
        new = seen.model_copy(
            update={
                "skill": skills(every, seen.skill),
                "baselines": errors(every, seen.baselines),
                "learnt_on": "training",
                "n_episodes": 185,
            }
        )
    facts = {"type": who, "sha256": None if who in record.baselines else "0" * 64}
    return record.model_copy(
        update={
            "policy": record.policy.model_copy(update=facts),
            "baselines": errors(trivial, record.baselines),
            "skill": skills(trivial, record.skill),
            "by_horizon": rows,
            "blind": new,
        }
    )


SMOLVLA: dict[str, Interval] = {
    "hold_state": (0.26, 0.15, 0.36),
    "repeat_last": (-0.04, -0.21, 0.10),
    "dataset_mean": (0.85, 0.81, 0.88),
}
"""A SmolVLA on held-out human demonstrations of PushT; chunk skill against hold state 0.41."""


def test_better_than_the_weaker_baseline_is_no_headline(plain: OfflineRecord) -> None:
    """Chunk skill 0.41 against hold state, and nothing shown against repeat last."""
    record = told(plain, SMOLVLA, blind={})
    assert headline(record) == (
        "Not shown to be better than “repeat last” on the executed steps: skill -0.04 [-0.21, 0.10]"
    )
    assert headline(record, ZH) == (
        "执行步上未能证明优于“重复上一动作”：技巧分 -0.04 [-0.21, 0.10]"
    )
    assert claims(record)[0] == (
        "Executed steps, the strongest trivial baseline first: not shown to be better than "
        "“repeat last”; better than “hold state”, “dataset mean”."
    )
    assert claims(record, ZH)[0] == (
        "执行步上（简单基线由强到弱）：未能证明优于“重复上一动作”；优于“保持当前状态”、“数据集均值”。"
    )


def test_where_along_the_chunk_it_begins_to_win(plain: OfflineRecord) -> None:
    """Step 1 is no win (-0.05 [-0.17, 0.06]); the far end of the chunk may be."""

    def along(*wins: bool, say: Say = english) -> str:
        n = len(plain.by_horizon)
        steps = [*wins, *[wins[-1]] * (n - len(wins))]
        return claims(told(plain, SMOLVLA, steps=steps, blind={}), say)[1]

    n = len(plain.by_horizon)
    assert along(False, False, True) == (
        f"Better than every trivial baseline from step 3 of {n} on; not shown before it."
    )
    assert along(False, False, True, say=ZH) == (
        f"自第 3 步起（共 {n} 步）优于所有简单基线；此前未能证明。"
    )
    assert along(True, False) == (
        f"Better than every trivial baseline from step 1 to 1 of {n}; not shown after it."
    )
    assert along(True) == "Better than every trivial baseline at every step of the chunk."
    assert along(False).startswith("At step 1 it is not shown to be better")
    assert along(False, say=ZH).startswith("第 1 步未能证明优于所有简单基线")
    # a gap: claimed is what is reached without a step that is not shown
    assert "from step 4" in along(False, True, False, True)
    assert "from step 1 to 2" in along(True, True, False, True)


@pytest.mark.parametrize("hold", [(0.88, 0.80, 0.93), (0.97, 0.95, 0.98)], ids=["aloha", "g1"])
def test_repeating_the_last_action_is_praised_for_nothing(
    hold: Interval, plain: OfflineRecord
) -> None:
    """The baseline that sees the demonstrator's action beats the others on ALOHA and on G1."""
    trivial = {"repeat_last": (0.0, 0.0, 0.0), "hold_state": hold, "dataset_mean": (0.9, 0.8, 0.95)}
    record = told(plain, trivial, blind={}, who="repeat_last")
    shown, chinese = headline(record), headline(record, ZH)
    assert shown.startswith("“repeat last” is no policy but a trivial baseline, the strongest here")
    assert chinese.startswith("“重复上一动作”不是策略，而是简单基线，在此为最强：执行步 MAE")
    assert "etter" not in shown
    assert "优于" not in chinese
    assert claims(record) == claims(record, ZH) == []
    assert "repeat_last" not in rivals(record)


def test_a_baseline_is_not_judged_against_itself(plain: OfflineRecord) -> None:
    """Nor is it called the strongest where another makes less error."""
    trivial = {
        "hold_state": (0.0, 0.0, 0.0),
        "repeat_last": (-1.5, -2.0, -1.0),
        "dataset_mean": (0.9, 0.8, 0.95),
    }
    record = told(plain, trivial, blind={}, who="hold_state")
    assert standing(record).itself == "hold_state"
    assert standing(record).strongest == "repeat_last"
    assert "not the strongest here" in headline(record)
    assert headline(record).endswith("skill -1.50 [-2.00, -1.00] against “repeat last”")
    assert headline(record, ZH).endswith("相对“重复上一动作”的技巧分 -1.50 [-2.00, -1.00]")


def test_what_takes_no_looking_is_said(plain: OfflineRecord) -> None:
    """A ridge on state and previous action reaches the SmolVLA's chunk skill, 0.42 and 0.41."""
    record = told(
        plain,
        SMOLVLA,
        blind={"ridge_state": (0.31, 0.23, 0.38), "ridge_state_action": (-0.40, -0.58, -0.24)},
    )
    assert claims(record)[2:] == [
        "Better than blind: executed skill 0.31 [0.23, 0.38] against ridge regression on the state "
        "(fitted on 185 training episodes).",
        "Worse than blind with the demonstrator's previous action, which no policy gets: "
        "-0.40 [-0.58, -0.24] against ridge regression on state and previous action.",
    ]
    assert claims(record, ZH)[2:] == [
        "优于不看图像的基线：执行步上相对“状态的岭回归”（用 185 个训练回合拟合）的技巧分 "
        "0.31 [0.23, 0.38]。",
        "劣于还知道示范者上一动作（任何策略都得不到）的不看图像基线：相对“状态加上一动作的岭回归”"
        "的技巧分 -0.40 [-0.58, -0.24]。",
    ]


def test_blind_on_the_state_alone_may_be_as_good(plain: OfflineRecord) -> None:
    """On ALOHA the state alone has a chunk skill of 0.77: beating hold state earns no camera."""
    trivial = SMOLVLA | {"hold_state": (0.80, 0.7, 0.9), "repeat_last": (0.3, 0.1, 0.5)}
    record = told(plain, trivial, blind={"nearest_state": (0.05, -0.1, 0.2)})
    assert headline(record).startswith("Better than “repeat last” on the executed steps")
    assert claims(record)[2].startswith("Not shown to be better than blind: executed skill 0.05")
    assert claims(record, ZH)[2].startswith("未能证明优于不看图像的基线")
    worse = told(plain, trivial, blind={"ridge_state": (-0.3, -0.5, -0.1)})
    assert claims(worse)[2].startswith("Worse than blind: executed skill -0.30")
    unknown = told(plain, trivial)
    assert "was not measured" in claims(unknown)[2]
    assert claims(unknown, ZH)[2] == "是否优于不看图像的基线：未测量。"


def test_without_an_interval_nothing_is_shown(plain: OfflineRecord) -> None:
    assert plain.blind is not None
    nothing: Interval = (0.9, None, None)
    record = told(
        plain, dict.fromkeys(SMOLVLA, nothing), blind=dict.fromkeys(plain.blind.skill, nothing)
    )
    every = " ".join([headline(record), *claims(record)])
    assert "nothing is shown" in headline(record)
    assert "etter than" not in every
    chinese = " ".join([headline(record, ZH), *claims(record, ZH)])
    assert "优于" not in chinese


def test_a_baseline_without_error_has_no_skill(plain: OfflineRecord) -> None:
    record = told(plain, SMOLVLA | {"repeat_last": (None, None, None)}, blind={})
    assert headline(record) == (
        "“repeat last” makes no error on the executed steps: skill is undefined"
    )


def test_the_demonstration_is_not_praised(data: Path, tmp_path: Path) -> None:
    record = evaluate(fakes.config_for(data, "replay", tmp_path / "o")).record
    assert headline(record) == (
        "Replay is the demonstration itself: MAE 0 px on the executed steps"
    )
    assert claims(record) == []


def test_the_same_words_stand_everywhere(data: Path, act: Path, tmp_path: Path) -> None:
    record = evaluate(fakes.config_for(data, act, tmp_path / "o")).record
    said = [headline(record), *claims(record)]
    assert len(said) >= 4
    screen = io.StringIO()
    Console(width=1000, file=screen).print(run_table(record))
    terminal = screen.getvalue()
    page = render(ReportConfig(str(tmp_path / "o"))).read_text()
    for text in said:
        assert text in terminal
        assert text in unescape(page)
    stored = read_record(tmp_path / "o")
    assert isinstance(stored, OfflineRecord)
    assert stored.headline == said[0]
    assert stored.standing == standing(record)
    assert stored.standing is not None
    assert set(stored.standing.trivial) == set(record.baselines)


@pytest.mark.parametrize(
    ("value", "as_number", "as_ratio"),
    [
        (None, "–", "–"),
        (0.0, "0", "0.00"),
        (-0.0, "0", "0.00"),
        (-0.0041, "-0.00410", "0.00"),
        (0.996, "0.996", "1.00"),
        (9.996, "10.0", "10.0"),
        (99.96, "100", "100"),
        (-134.02, "-134", "-134"),
        (-85.15, "-85.2", "-85.2"),
        (-3.2, "-3.20", "-3.20"),
        (123456.0, "1.23e+05", "1.23e+05"),
        (0.00009999, "1.00e-04", "0.00"),
    ],
)
def test_numbers_are_rounded_by_one_rule(
    value: float | None, as_number: str, as_ratio: str
) -> None:
    assert (number(value), ratio(value)) == (as_number, as_ratio)


@pytest.mark.parametrize(
    ("width", "said"),
    [(1.0, "not shown to be"), (0.25, "too sure"), (3.0, "too unsure")],
)
def test_samples_are_seen(width: float, said: str, plain: OfflineRecord) -> None:
    """Samples and truth of one distribution, and samples that are narrower or wider than it."""
    draw = np.random.default_rng(1)
    sums = []
    for length in (40, 30, 50, 35, 45, 38, 42, 33):
        centre = draw.normal(size=(length, 4, 3))
        target = centre + draw.normal(size=(length, 4, 3))
        samples = centre + width * draw.normal(size=(6, length, 4, 3))
        sums.append(sample_sums(samples, target, np.zeros((length, 4), bool)))
    record = plain.model_copy(
        update={
            "samples": sample_scores(sums),
            "policy": plain.policy.model_copy(update={"samples": 6}),
        }
    )
    first, second = sample_lines(record)
    assert first.startswith("6 samples a frame: energy score")
    assert said in first
    assert "of the best of 6" in second
    screen = io.StringIO()
    Console(width=1000, file=screen).print(run_table(record))
    assert first in screen.getvalue()
    assert second in screen.getvalue()
    assert "not timed. Throughput" in screen.getvalue()
    assert " of 6 samples each in batches" in screen.getvalue()


def test_the_energy_score_of_a_value_does_not_grow_with_their_number() -> None:
    """The same values twice, as more dims: the norm grows by √2, the score of a value stays."""
    draw = np.random.default_rng(2)
    target, samples = draw.normal(size=(9, 4, 2)), draw.normal(size=(3, 9, 4, 2))
    pad = np.zeros((9, 4), bool)
    once = sample_scores([sample_sums(samples, target, pad)])
    twice = sample_scores(
        [sample_sums(np.concatenate([samples] * 2, -1), np.concatenate([target] * 2, -1), pad)]
    )
    assert once.energy_score_each is not None
    assert twice.energy_score_each is not None
    assert once.energy_score.value == pytest.approx(once.energy_score_each.value * np.sqrt(8))
    assert twice.energy_score.value == pytest.approx(once.energy_score.value * np.sqrt(2))
    assert twice.energy_score_each.value == pytest.approx(once.energy_score_each.value)


def test_a_dim_that_rests_is_not_the_worst(plain: OfflineRecord) -> None:
    """0.1 degrees are 0.47 std of a waist that never turns, and nothing beside an elbow's 3."""
    first = plain.dims()[0]

    def dim(i: int, name: str, mae: float, std: float, floor: float, unit: str = "rad") -> DimRow:
        new = {"dim": i, "name": name, "mae": mae, "std": std, "nmae": mae / std, "unit": unit}
        return first.model_copy(update={**new, "noise_floor": floor})

    rows = [
        dim(0, "waist", 0.0017, 0.0037, 1e-6),
        dim(1, "elbow", 0.052, 0.2, 1e-5),
        dim(2, "shoulder", 0.05, 0.5, 4e-5),
        dim(3, "wrist", 0.09, 0.6, 1e-5),
        dim(4, "sensor", 0.9, 1.0, 1.5),
    ]
    order = [row.name for row in worst_dims(plain.model_copy(update={"by_dim": rows}))]
    assert order == ["elbow", "wrist", "shoulder", "waist", "sensor"]
    alone = [row.model_copy(update={"unit": "native"}) for row in rows]  # nothing to compare with
    assert worst_dims(plain.model_copy(update={"by_dim": alone}))[0].name == "waist"


def test_none_of_64_is_not_never() -> None:
    """The rate p at which none of 64 has a chance of 5 %: (1 - p)^64 = 0.05."""
    assert share(0.0, 64) == "0 of 64 (at most 4.6 %)"
    assert pytest.approx(0.0457, abs=5e-5) == 1 - 0.05 ** (1 / 64)
    assert share(2 / 64, 64, ZH) == "64 次中 2 次（至多 9.5 %）"  # the binomial sum by hand
    p = at_most(2, 64)
    below = sum(comb(64, i) * p**i * (1 - p) ** (64 - i) for i in range(3))
    assert below == pytest.approx(0.05)
    assert share(1.0, 64) == "64 of 64"
    assert share(None, 0) == "–"


@pytest.mark.slow
@pytest.mark.parametrize("robot", ["aloha-sim-transfer-cube", "g1"])
def test_repeat_last_on_real_robots(robot: str, shared: Path, tmp_path: Path) -> None:
    root = str(shared / "datasets" / robot)
    record = evaluate(
        EvalConfig(
            policy=PolicyConfig(type="repeat_last"),
            dataset=DatasetConfig(repo_id=f"lerobot/{robot}", root=root),
            output_dir=str(tmp_path / "o"),
            latency_calls=0,
        )
    ).record
    assert headline(record).startswith("“repeat last” is no policy but a trivial baseline")
    assert claims(record) == []


@pytest.mark.slow
def test_the_small_smolvla_on_held_out_pusht(shared: Path, tmp_path: Path) -> None:
    record = evaluate(
        EvalConfig(
            policy=PolicyConfig(path=str(shared / "checkpoints" / "smolvla-pusht-small")),
            dataset=DatasetConfig(
                repo_id="lerobot/pusht",
                root=str(shared / "datasets" / "pusht"),
                episodes="185:206",
            ),
            output_dir=str(tmp_path / "o"),
            latency_calls=0,
            device="cpu",
        )
    ).record
    assert headline(record).startswith("Not shown to be better than “repeat last”")
    assert standing(record).better_from != 1
    assert standing(record).blind["ridge_state_action"] != "better"
