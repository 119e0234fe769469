"""The command line and the public names."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import fakes
import policyscope
from policyscope.config import DatasetConfig, EvalConfig, PolicyConfig

HEAVY = ("torch", "lerobot", "transformers", "datasets", "matplotlib", "pandas")

_MAIN = "from policyscope.commands.cli import main"


def _modules_after(code: str) -> set[str]:
    program = f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\n"
    program += "print('MODULES', *sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(done.stdout.rsplit("MODULES", 1)[1].split())


@pytest.mark.parametrize(
    "code",
    [
        "import policyscope",
        "from policyscope.commands.cli import main; main(['--help'])",
        "from policyscope.commands.cli import main; main(['eval', '--help'])",
        "from policyscope.commands.cli import main; main(['report', '/nowhere'])",
    ],
)
def test_nothing_heavy_is_imported_before_it_must(code: str) -> None:
    assert not {*HEAVY} & _modules_after(code)


@pytest.mark.parametrize("code", ["import policyscope", f"{_MAIN}; main(['eval', '--help'])"])
def test_help_needs_no_record(code: str) -> None:
    assert not {"pydantic", "pyarrow"} & _modules_after(code)


def test_rendering_needs_no_torch(data: Path, tmp_path: Path) -> None:
    policyscope.evaluate(fakes.config_for(data, "repeat_last", tmp_path / "o"))
    code = f"from policyscope.commands.cli import main; main(['report', {str(tmp_path / 'o')!r}])"
    loaded = _modules_after(code)
    assert not {"torch", "lerobot", "datasets"} & loaded
    assert "matplotlib" in loaded


@pytest.mark.parametrize("command", ["check --frames 0", "report", "compare", "plan", "schema"])
def test_files_are_read_without_torch(command: str, data: Path, act: Path, tmp_path: Path) -> None:
    dataset = ["--dataset.repo_id", "fake/data", "--dataset.root", str(data)]
    words = {
        "check --frames 0": ["--policy.path", str(act), *dataset],
        "schema": dataset,
        "plan": ["--from", "0.6", "--to", "0.8"],
    }.get(command, [])
    if command in ("report", "compare"):
        for name in ("repeat_last", "hold_state")[: 1 + (command == "compare")]:
            policyscope.evaluate(fakes.config_for(data, name, tmp_path / name))
            words.append(str(tmp_path / name))
    loaded = _modules_after(f"{_MAIN}; main({[*command.split(), *words]!r})")
    assert not {"torch", "lerobot", "transformers", "datasets"} & loaded
    if command in ("check --frames 0", "schema"):
        assert not {"pandas", "scipy.stats", "scipy.optimize", "matplotlib"} & loaded


def test_public_names_are_complete_and_sorted() -> None:
    assert list(policyscope.__all__) == sorted(policyscope.__all__)
    for name in policyscope.__all__:
        assert getattr(policyscope, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'guess'"):
        policyscope.guess  # noqa: B018


@pytest.mark.parametrize("command", [[], ["--help"], ["eval", "--help"], ["check", "--help"]])
def test_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    from policyscope.commands.cli import main

    with pytest.raises(SystemExit) as exit_:
        main(command)
    assert exit_.value.code == 0
    assert "policyscope eval" in capsys.readouterr().out or command == ["check", "--help"]


def test_flags_reach_the_config(monkeypatch: pytest.MonkeyPatch) -> None:
    from policyscope.commands import cli

    seen: list[EvalConfig] = []
    monkeypatch.setitem(cli._RUN, EvalConfig, lambda config: seen.append(config) or 0)
    words = (
        "eval --policy.path p --dataset.repo_id a/b --dataset.root d --dataset.episodes 185:206 "
        "--output_dir o --max_frames 9 --batch_size 7 --samples 2 --seed 3 --device cpu "
        "--n_action_steps 4 --action_dims 0,1 --stats dataset --overwrite"
    )
    with pytest.raises(SystemExit) as exit_:
        cli.main([*words.split(), "--rename_map", '{"a": "b"}'])
    assert exit_.value.code == 0
    assert seen == [
        EvalConfig(
            policy=PolicyConfig(path="p"),
            dataset=DatasetConfig(repo_id="a/b", root="d", episodes="185:206"),
            output_dir="o",
            max_frames=9,
            batch_size="7",
            samples=2,
            seed=3,
            device="cpu",
            n_action_steps=4,
            rename_map='{"a": "b"}',
            action_dims="0,1",
            stats="dataset",
            overwrite=True,
        )
    ]


@pytest.mark.parametrize(
    "words",
    [["fly"], ["eval", "--nonsense"], ["eval", "--policy.type", "magic"], ["report"], ["eval"]],
)
def test_bad_usage_is_status_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    from policyscope.commands.cli import main

    with pytest.raises(SystemExit) as exit_:
        main(words)
    assert exit_.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_debug_shows_the_traceback() -> None:
    from policyscope.commands.cli import main
    from policyscope.errors import OutputError

    with pytest.raises(OutputError):
        main(["report", "/nowhere", "--debug"])


@pytest.mark.slow
def test_ctrl_c_is_130_and_resumable(shared: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    words = [sys.executable, "-m", "policyscope", "eval"]
    words += ["--policy.path", str(shared / "checkpoints" / "smolvla-pusht-small")]
    words += ["--dataset.repo_id", "lerobot/pusht", "--latency_calls", "0"]
    words += ["--dataset.root", str(shared / "datasets" / "pusht"), "--output_dir", str(out)]
    words += ["--dataset.episodes", "185:190"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(out.glob("parts/episode-*")) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--resume" in complaint
    assert "Traceback" not in complaint
    assert json.loads((out / "run.json").read_text())["status"] == "partial"
    done = subprocess.run([*words, "--resume"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "run.json").read_text())["status"] == "complete"


@pytest.mark.slow
def test_mixed_spaces_fail_the_type_checker(tmp_path: Path) -> None:
    """Without its ignores, every marked line of must_fail.py is an error."""
    root = Path(__file__).parents[1]
    source = (root / "tests" / "typing" / "must_fail.py").read_text()
    marked = [i for i, line in enumerate(source.splitlines(), 1) if "type: ignore" in line]
    bare = tmp_path / "bare.py"
    bare.write_text("\n".join(line.split("  # type: ignore")[0] for line in source.splitlines()))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", str(bare)],
        capture_output=True,
        text=True,
        check=False,
        cwd=root,
    )
    found = {int(line.split(":")[1]) for line in done.stdout.splitlines() if ": error:" in line}
    assert found == set(marked), done.stdout
    assert len(marked) >= 7
