"""Blind baselines against scikit-learn, fitted by hand without the episode that is predicted."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

import fakes
from policyscope.commands.evaluate import evaluate
from policyscope.config import DatasetConfig
from policyscope.data.facts import ACTION
from policyscope.data.source import FrameSource
from policyscope.engine.blind import Learned, learn
from policyscope.metrics.blind import BLIND, Blind, Demonstration, Scale
from policyscope.runs.content import OfflineRecord

H = 8


def _made(
    draw: np.random.Generator, lengths: tuple[int, ...], dims: int = 3
) -> list[Demonstration]:
    episodes = []
    for index, length in enumerate(lengths):
        actions = draw.normal(size=(length, dims)).cumsum(axis=0)
        state = actions @ draw.normal(size=(dims, dims)) + draw.normal(size=(length, dims))
        state[:, -1] = 4.0  # a joint that rests
        previous = np.concatenate([actions[:1], actions[:-1]])
        episodes.append(Demonstration(index + 5, state, actions, previous))
    return episodes


def _scale(episodes: list[Demonstration]) -> Scale:
    state, action = (
        np.concatenate([getattr(e, k) for e in episodes]) for k in ("state", "actions")
    )
    return Scale.of(*({"mean": x.mean(axis=0), "std": x.std(axis=0)} for x in (state, action)))


def _features(scale: Scale, episode: Demonstration, name: str) -> np.ndarray:
    columns = []
    parts = [(episode.state, scale.state)]
    if name.endswith("action"):
        parts.append((episode.previous, scale.action))
    for x, (mean, std) in parts:
        columns += [(x[:, d] - mean[d]) / std[d] for d in range(x.shape[1]) if std[d] > 1e-6]
    return np.stack(columns, axis=1)


def _by_hand(
    name: str, others: list[Demonstration], episode: Demonstration, scale: Scale, step: int
) -> np.ndarray:
    """[T, A] what scikit-learn predicts for one step of the chunk."""
    from sklearn.linear_model import Ridge
    from sklearn.neighbors import KNeighborsRegressor

    if name.startswith("ridge"):
        model = Ridge(alpha=1.0)
        reach = [(e, len(e.actions) - step) for e in others if len(e.actions) > step]
        x = np.concatenate([_features(scale, e, name)[:n] for e, n in reach])
        y = np.concatenate([e.actions[step:] for e, _ in reach])
    else:
        model = KNeighborsRegressor(n_neighbors=1, algorithm="brute")
        x = np.concatenate([_features(scale, e, name) for e in others])
        held = [
            np.concatenate([e.actions, np.repeat(e.actions[-1:], step, axis=0)]) for e in others
        ]
        y = np.concatenate([a[step:] for a in held])
    return model.fit(x, y).predict(_features(scale, episode, name))


@pytest.mark.parametrize("name", BLIND)
def test_left_out_and_given_episodes(name: str) -> None:
    draw = np.random.default_rng(0)
    *training, other = _made(draw, (30, 5, 41, 22, 17))  # one is shorter than a chunk
    scale = _scale([*training, other])
    blind = Blind(training, scale, horizon=H)
    for step in (0, 3, H - 1):
        for episode in (*training, other):
            rest = [e for e in training if e.index != episode.index]
            known = blind.chunks(episode)[name]
            assert known.shape == (len(episode.actions), H, 3)
            expected = _by_hand(name, rest, episode, scale, step)
            np.testing.assert_allclose(known[:, step], expected, rtol=1e-6, atol=1e-7)


def test_no_episode_sees_itself() -> None:
    """Its actions may be anything: what is predicted for it stays the same."""
    draw = np.random.default_rng(1)
    episodes = _made(draw, (20, 25, 30))
    scale = _scale(episodes)
    first = episodes[0]
    strange = Demonstration(first.index, first.state, first.actions + 1e3, first.previous)
    a = Blind(episodes, scale, horizon=H).chunks(first)
    b = Blind([strange, *episodes[1:]], scale, horizon=H).chunks(strange)
    for name in BLIND:
        np.testing.assert_allclose(a[name], b[name], rtol=1e-6)


def test_steps_that_no_demonstration_reaches_are_the_mean() -> None:
    episodes = _made(np.random.default_rng(2), (4, 5))
    known = Blind(episodes, _scale(episodes), horizon=H).chunks(episodes[0])
    mean = _scale(episodes).action[0]
    np.testing.assert_allclose(known["ridge_state"][:, 6:], np.broadcast_to(mean, (4, 2, 3)))
    assert all(np.isfinite(chunks).all() for chunks in known.values())


def test_alone_there_is_nothing_to_be_near_to() -> None:
    episodes = _made(np.random.default_rng(3), (9,))
    with pytest.raises(ValueError, match="no other episode"):
        Blind(episodes, _scale(episodes), horizon=H).chunks(episodes[0])


def test_what_is_learnt_from(data: Path) -> None:
    """The training's episodes where they are known, else the evaluated ones, left out in turn."""
    source = FrameSource(DatasetConfig(root=str(data)), repo_id="fake/data")
    every = tuple(range(6))

    def learnt(evaluated: tuple[int, ...], trained: frozenset[int] | None) -> Learned | None:
        return learn(source, evaluated, trained=trained, horizon=H, action_kind="absolute")

    known = learnt((5,), frozenset(range(5)))
    assert known is not None
    assert (known.on, known.episodes) == ("training", (0, 1, 2, 3, 4))
    assert known.chunks(source, source.episode(5))["ridge_state"].shape[1:] == (H, 2)
    alone = learnt(every, None)
    assert alone is not None
    assert (alone.on, alone.episodes) == ("left_out", every)
    assert learnt(every, frozenset({0})) is not None  # one episode is too few: left out in turn
    assert learnt((0, 1, 2), None) is None


def test_a_run_holds_the_blind_baselines(data: Path, tmp_path: Path) -> None:
    record = evaluate(fakes.config_for(data, "hold_state", tmp_path / "o")).record
    assert isinstance(record, OfflineRecord)
    blind = record.blind
    assert blind is not None
    assert blind.learnt_on == "left_out"
    assert set(blind.skill) == set(blind.baselines) == set(BLIND)
    assert not set(BLIND) & set(record.baselines)
    ours = record.summary.chunk.mse.value
    theirs = blind.baselines["ridge_state"].chunk.mse.value
    assert ours is not None
    assert theirs is not None
    assert blind.skill["ridge_state"].chunk.value == pytest.approx(1 - ours / theirs)


@pytest.mark.parametrize(
    ("dataset", "tried"),
    [("pusht", (0, 100)), ("g1", (0, 7)), ("aloha-sim-transfer-cube", (2,))],
)
def test_real_demonstrations_agree_with_scikit_learn(
    shared: Path, dataset: str, tried: tuple[int, ...]
) -> None:
    """Every other episode is learnt from; all four, at the first, a middle and the last step."""
    from policyscope.policies.builtin import baseline_actions

    source = FrameSource(DatasetConfig(root=str(shared / "datasets" / dataset)), repo_id=dataset)
    stats = source.facts.robot.stats
    episodes = []
    for index in range(len(source.facts.lengths)):
        e = source.episode(index)
        assert e.state is not None
        previous = baseline_actions(e, stats=stats)["repeat_last"]
        episodes.append(Demonstration(index, e.state.astype(float), e.actions.values, previous))
    scale = Scale.of(stats["observation.state"], stats[ACTION])
    begin = time.process_time()
    blind = Blind(episodes, scale, horizon=16)
    for episode in episodes:
        blind.chunks(episode)
    assert time.process_time() - begin < 60  # seconds, as a rule
    for index in tried:
        known = blind.chunks(episodes[index])
        rest = [e for e in episodes if e.index != index]
        for name in BLIND:
            for step in (0, 7, 15):
                expected = _by_hand(name, rest, episodes[index], scale, step)
                off = np.abs(known[name][:, step] - expected).max(axis=1) / scale.action[1].max()
                # frames may be equally near to two others: which of them is taken is nobody's
                assert (off < 1e-6).mean() > (0.98 if name.startswith("nearest") else 0.999)
