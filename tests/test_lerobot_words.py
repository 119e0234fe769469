"""lerobot's own lines, pasted, and files that hold a command: what they are read as."""

from __future__ import annotations

import ast
import importlib.util
import itertools
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from policyscope.commands.cli import _COMMANDS, _parsed, main
from policyscope.commands.translate import translated
from policyscope.config import (
    CheckEnvConfig,
    DatasetConfig,
    EnvConfig,
    EvalConfig,
    PolicyConfig,
    RolloutConfig,
)
from policyscope.errors import InputError, UsageError


def read(line: str | list[str]) -> Any:
    words = shlex.split(line) if isinstance(line, str) else line
    return _parsed(translated(words, _COMMANDS) or words)


RENAMED = '{"observation.images.image":"observation.images.camera1"}'

# The lines of lerobot's evaluation script, of its pages on LIBERO, MetaWorld and policies, and of
# forks, with what they ask for.
LINES = [
    (
        "--policy.path=lerobot/diffusion_pusht --env.type=pusht --eval.batch_size=10 "
        "--eval.n_episodes=10 --policy.use_amp=false --policy.device=cuda",
        RolloutConfig(
            policy=PolicyConfig(path="lerobot/diffusion_pusht"),
            env=EnvConfig(type="pusht"),
            n_envs="10",
            n_episodes=10,
            device="cuda",
        ),
    ),
    (
        "--policy.path outputs/train/diffusion_pusht/checkpoints/005000/pretrained_model "
        "--env.type pusht --eval.batch_size 10 --eval.n_episodes 10 --policy.use_amp False "
        "--policy.device cpu --seed=1 --job_name=mine --output_dir=out/eval",
        RolloutConfig(
            policy=PolicyConfig(
                path="outputs/train/diffusion_pusht/checkpoints/005000/pretrained_model"
            ),
            env=EnvConfig(type="pusht"),
            n_envs="10",
            n_episodes=10,
            device="cpu",
            seed=1,
            output_dir="out/eval",
        ),
    ),
    (
        "--policy.path=your-id --env.type=libero --env.task=libero_spatial,libero_object "
        "--env.task_ids='[0,3]' --env.control_mode=relative --env.init_states=true "
        "--env.max_parallel_tasks=1 --eval.batch_size=1 --eval.n_episodes=3 "
        f"--policy.n_action_steps=10 --rename_map='{RENAMED}' --eval.use_async_envs=false",
        RolloutConfig(
            policy=PolicyConfig(path="your-id"),
            env=EnvConfig(
                type="libero",
                task="libero_spatial,libero_object",
                task_ids="[0,3]",
                settings='{"control_mode": "relative", "init_states": true}',
            ),
            rename_map=RENAMED,
            n_action_steps=10,
            n_envs="1",
            n_episodes=3,
        ),
    ),
    (
        "--policy.path=x --env.type=metaworld --env.task=medium --eval.batch_size=0 "
        "--trust_remote_code=false",
        RolloutConfig(
            policy=PolicyConfig(path="x"),
            env=EnvConfig(type="metaworld", task="medium"),
        ),
    ),
    (
        "--policy.pretrained-path=x --env.type=aloha --env.task=AlohaInsertion-v0 "
        """--env.settings '{"render_mode": "rgb_array"}' --env.obs_type=pixels_agent_pos""",
        RolloutConfig(
            policy=PolicyConfig(path="x"),
            env=EnvConfig(
                type="aloha",
                task="AlohaInsertion-v0",
                settings='{"render_mode": "rgb_array", "obs_type": "pixels_agent_pos"}',
            ),
        ),
    ),
]


@pytest.mark.parametrize("command", ["lerobot-eval", "rollout"])
@pytest.mark.parametrize(("line", "meant"), LINES)
def test_pasted_lines_mean_what_they_meant(command: str, line: str, meant: RolloutConfig) -> None:
    assert read(f"{command} {line}") == meant


def test_the_lines_in_lerobot_s_own_script() -> None:
    found = importlib.util.find_spec("lerobot.scripts.lerobot_eval")
    assert found is not None
    assert found.origin is not None
    docstring = ast.get_docstring(ast.parse(Path(found.origin).read_text()))
    blocks = (docstring or "").split("```")[1::2]
    assert len(blocks) >= 2
    for block in blocks:
        config = read(shlex.split(block.replace("\\\n", " ")))
        assert isinstance(config, RolloutConfig)
        assert (config.n_episodes, config.n_envs) == (10, "10")
        assert config.policy.path is not None
        assert config.policy.path in block


@pytest.mark.parametrize(
    "line",
    [
        "rollout --policy.path x --env.type pusht --n_episodes 3 --no_nothing",
        "eval --policy.path=x --dataset.repo-id y --stride 3",
        "plan --from 0.6 --to 0.8",
        "compare a b --metric executed.mae",
        "nonsense --policy.device cuda",
        "",
    ],
)
def test_our_own_words_stay_as_they_are(line: str) -> None:
    assert translated(line.split(), _COMMANDS) is None


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("--policy.use_amp=true", "--policy.use_amp true"),
        ("--trust_remote_code=true", "--trust_remote_code true"),
        ("--env.fps=20 --policy.device cpu", "--env.fps 20 --device cpu"),
        ("--eval.recording=true", "--eval.recording true"),
    ],
)
def test_what_has_no_equal_is_left_to_be_named(line: str, meant: str) -> None:
    words = ["rollout", *line.split()]
    said = translated(words, _COMMANDS) or words
    assert [part for word in said for part in word.split("=")] == ["rollout", *meant.split()]


def test_what_was_read_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["check_env", "--env.type=pusht", "--polcy.device=x\x1b[2J", "--env.obs_type=a"])
    said = capsys.readouterr().err
    assert said.startswith("read as: policyscope check_env --env.type pusht")
    assert "\x1b" not in said


def record(tmp_path: Path, line: str, **more: object) -> Path:
    content = {
        "schema_version": 2,
        "environment": {"command_line": ["policyscope", *shlex.split(line)]},
    }
    file = tmp_path / "run.json"
    file.write_text(json.dumps(content | more))
    return file


def test_a_run_is_repeated_and_flags_override(tmp_path: Path) -> None:
    line = (
        "eval --policy.path ck --dataset.repo_id a/b --dataset.root=data --stride 3 --force "
        "--output_dir old --resume --lang zh"
    )
    file = record(tmp_path, line)
    for named in (file, tmp_path):
        config = read(["eval", "--config", str(named), "--stride=5", "--output_dir", "new"])
        assert config == EvalConfig(
            policy=PolicyConfig(path="ck"),
            dataset=DatasetConfig(repo_id="a/b", root="data"),
            stride=5,
            lang="zh",
            output_dir="new",
        )


def test_a_run_made_by_lerobot_s_words_is_repeated(tmp_path: Path) -> None:
    file = record(tmp_path, "lerobot-eval --policy.path=x --env.type=pusht --eval.n_episodes=7")
    assert read(["rollout", "--config", str(file)]) == RolloutConfig(
        policy=PolicyConfig(path="x"), env=EnvConfig(type="pusht"), n_episodes=7
    )


def test_a_file_of_flags(tmp_path: Path) -> None:
    file = tmp_path / "eval.yaml"
    file.write_text(
        "policy: {path: x, device: cpu, use_amp: false}\n"
        "env:\n  type: libero\n  task: libero_10\n  init_states: true\n"
        "eval: {n_episodes: 4, batch_size: 2}\n"
        "rename_map: {a: b}\nseed: 3\njob_name: null\n"
    )
    meant = RolloutConfig(
        policy=PolicyConfig(path="x"),
        env=EnvConfig(type="libero", task="libero_10", settings='{"init_states": true}'),
        rename_map='{"a": "b"}',
        device="cpu",
        n_episodes=4,
        n_envs="2",
        seed=3,
    )
    assert read(["rollout", "--config", str(file)]) == meant
    assert read(["lerobot-eval", f"--config_path={file}"]) == meant
    other = tmp_path / "env.json"
    other.write_text('{"env": {"type": "aloha"}}')
    assert read(["check_env", "--config", str(other)]) == CheckEnvConfig(EnvConfig(type="aloha"))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.yaml", "- 1\n", "a mapping of flags"),
        ("a.yaml", "a: &x [1]\nb: *x\n", "without aliases"),
        ("a.yaml", "!!python/object/apply:os.system ['true']\n", "YAML"),
        ("a.yaml", "a: [\n", "YAML"),
        ("a.yaml", "a: {b: {c: {d: {e: {f: 1}}}}}\n", "names of flags"),
        ("a.yaml", "1: 2\n", "names of flags"),
        ("a.yaml", "\x00", "YAML"),
        ("a.yaml", "[" * 60_000, "at most 1000 brackets"),
        ("a.yaml", "- " * 60_000, "at most"),
        ("a.yaml", "[" * 1_000, "YAML"),
        ("a.yaml", "- " * 30_000, "YAML"),
        ("a.json", "{", "JSON"),
        ("a.json", "[]", "JSON object"),
    ],
    ids=itertools.count(),
)
def test_files_that_hold_no_command(tmp_path: Path, name: str, content: str, says: str) -> None:
    file = tmp_path / name
    file.write_text(content)
    with pytest.raises(InputError) as error:
        translated(["eval", "--config", str(file)], _COMMANDS)
    assert says in str(error.value)


def test_a_file_can_t_name_code(tmp_path: Path) -> None:
    file = tmp_path / "env.yaml"
    file.write_text("env: {type: gym, task: 'antigravity:Env-v0'}\n")
    with pytest.raises(UsageError, match="no code to import"):
        translated(["check_env", "--config", str(file)], _COMMANDS)
    own = tmp_path / "own.yaml"
    own.write_text("policy: {type: 'antigravity:Policy'}\ndataset: {repo_id: a/b}\n")
    with pytest.raises(UsageError, match=r"no code to import.*--policy\.type antigravity"):
        translated(["eval", "--config", str(own)], _COMMANDS)
    typed = ["check_env", "--config", str(file), "--env.task", "mine:Env-v0"]
    assert read(typed) == CheckEnvConfig(EnvConfig(type="gym", task="mine:Env-v0"))


def test_a_file_can_t_name_a_server(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("policy: {url: 'ws://evil.example'}\ndataset: {repo_id: a/b}\n")
    with pytest.raises(UsageError, match=r"names no server.*--policy\.url ws://evil"):
        translated(["eval", "--config", str(file)], _COMMANDS)
    cluster = tmp_path / "cluster.yaml"
    cluster.write_text("engine: ray\nray: {address: 'evil.example:6379'}\n")
    with pytest.raises(UsageError, match=r"names no server.*--ray\.address evil"):
        translated(["eval", "--config", str(cluster)], _COMMANDS)
    typed = ["eval", "--config", str(file), "--policy.url", "ws://mine"]
    assert translated(typed, _COMMANDS) == [
        *("eval", "--dataset.repo_id", "a/b", "--policy.url", "ws://mine")
    ]


@pytest.mark.parametrize("line", ["rollout --policy.path x", "pytest -q", ""])
def test_a_run_of_another_command(tmp_path: Path, line: str) -> None:
    with pytest.raises(UsageError, match="a run of policyscope eval"):
        translated(["eval", "--config", str(record(tmp_path, line))], _COMMANDS)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        translated(["eval", "--config", str(tmp_path / "no.yaml")], _COMMANDS)
    with pytest.raises(UsageError, match="a file"):
        translated(["eval", "--config"], _COMMANDS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as status:
        main(["--version"])
    assert status.value.code == 0
    assert capsys.readouterr().out.startswith("policyscope 0.")
