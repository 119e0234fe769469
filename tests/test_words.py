"""Words at the command line that nobody knows: one line each, with the one that was meant."""

from __future__ import annotations

import pytest

from policyscope.commands.cli import _COMMANDS, main
from policyscope.commands.words import LEROBOT, flags_of, require_known
from policyscope.config import EnvConfig
from policyscope.errors import UsageError


@pytest.mark.parametrize(
    ("words", "expected", "found", "fix"),
    [
        ("rollot", "a command", "'rollot'", "policyscope rollout"),
        ("check-env --env.type gym", "a command", "'check-env'", "policyscope check_env"),
        ("--env.type pusht rollout", "a command", "--env.type", "policyscope rollout --env.type"),
        ("rollout --policy.pth x", "its flags", "--policy.pth", "--policy.path"),
        ("check_env --env.tpye gym", "its flags", "--env.tpye", "--env.type"),
        ("eval --policy-path x", "its flags", "--policy-path", "--policy.path"),
        ("eval --n_episode 3", "its flags", "--n_episode", "a flag of policyscope rollout"),
        ("rollout --dtype bfloat16", "its flags", "--dtype", "a flag of policyscope eval"),
        ("rollout extra", "a flag", "'extra'", "--help"),
        ("rollout -n 4", "a flag", "'-n'", "--help"),
        ("rollout --n_episodes x", "a whole number", "'x'", "--n_episodes 4"),
        ("rollout --n_episodes", "a value", "none", "--n_episodes 4"),
        ("rollout --env.timeout_s soon", "a number", "'soon'", "--env.timeout_s 0.5"),
        ("rollout --device tpu", "one of auto, cpu, cuda, mps", "'tpu'", "--device cpu"),
        ("rollout --success ende", "one of any, end", "'ende'", "--success end"),
        ("rollout --resume=yes", "no value", "'yes'", "--resume"),
        # lerobot's own
        ("check --eval.n_episodes 3", "its flags", "--eval.n_episodes", "policyscope rollout"),
        ("rollout --eval.recording true", "its flags", "--eval.recording", "--record DIR"),
        ("eval --policy.use_amp=true", "its flags", "--policy.use_amp", "--dtype bfloat16"),
        ("rollout --policy.use_amp=true", "its flags", "--policy.use_amp", "policyscope eval"),
        ("eval --policy.num_steps 4", "its flags", "--policy.num_steps", "config.json"),
        ("rollout --env.fps 20", "its flags", "--env.fps", "--env.control_hz"),
    ],
)
def test_one_line_with_the_nearest_name(
    words: str, expected: str, found: str, fix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_status:
        main(words.split())
    assert exit_status.value.code == 2
    out, error = capsys.readouterr()
    assert not out
    assert error.count("\n") == 1
    said, _, mend = error.rstrip().partition(" Fix: ")
    wanted, _, got = said.partition("; found ")
    assert expected in wanted
    assert found in got
    assert fix in mend


@pytest.mark.parametrize(
    "words",
    [
        "",
        "--help",
        "rollout --help --nonsense",
        "report a b --lang zh",
        "report",
        "eval --policy.path=x --dataset.repo-id y --stride 3",
        "rollout --env.timeout_s -3 --noise_seed -1",
        "rollout --env.settings {} --force",
    ],
)
def test_what_the_parser_knows_passes(words: str) -> None:
    require_known(words.split(), _COMMANDS)


def test_every_hint_names_a_flag_or_says_leave_it_out() -> None:
    known = {flag for kind in _COMMANDS.values() for flag in flags_of(kind)[0]}  # type: ignore[arg-type]
    for word, hint in LEROBOT.items():
        assert word not in known, word
        first = hint.split()[0]
        assert first in known or hint.startswith("leave it out"), word


@pytest.mark.parametrize(
    "settings",
    [
        {"timeout_s": -1.0},
        {"timeout_s": 0.0},
        {"timeout_s": float("nan")},
        {"timeout_s": float("inf")},
        {"control_hz": 0.0},
        {"control_hz": -20.0},
        {"episode_length": 0},
        {"settings": "[1]"},
        {"settings": "[" * 100_000},
        {"task_ids": "9" * 5000},
    ],
)
def test_numbers_that_make_no_sense(settings: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="--env") as error:
        EnvConfig(**settings)  # type: ignore[arg-type]
    assert error.value.expected != error.value.found


def test_a_flag_is_known_by_the_name_that_it_is_shown_under(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """``from`` is no Python name, so the field has another."""
    with pytest.raises(SystemExit) as over:
        main(["plan", "--from", "0.6", "--to", "0.8"])
    assert over.value.code == 0
    assert "48" in capsys.readouterr().out
    with pytest.raises(SystemExit) as over:
        main(["plan", "--from", "2", "--to", "0.8"])
    assert over.value.code == 2
    assert "--from: expected a rate" in capsys.readouterr().err
