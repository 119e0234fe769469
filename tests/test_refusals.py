"""What can't be right is refused: one clear line, exit status 2, nothing lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

import fakes
from policyscope.commands.check import check
from policyscope.commands.cli import main
from policyscope.runs.record import read_record

Damage = Callable[[Path], None]


def run_cli(*words: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(list(words))
    return int(exit_.value.code or 0)


def eval_words(root: Path, policy: Path | None, out: Path, *more: str) -> list[str]:
    who = ["--policy.type", "hold_state"] if policy is None else ["--policy.path", str(policy)]
    data = ["--dataset.repo_id", "fake/data", "--dataset.root", str(root)]
    return ["eval", *who, *data, "--output_dir", str(out), "--latency_calls", "0", *more]


def edit_json(name: str, change: Callable[[dict], None]) -> Damage:
    def damage(folder: Path) -> None:
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return damage


def truncate(pattern: str) -> Damage:
    def damage(folder: Path) -> None:
        file = sorted(folder.glob(pattern))[0]
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])

    return damage


def remove(pattern: str) -> Damage:
    return lambda folder: sorted(folder.glob(pattern))[0].unlink()


def without_action_stats(folder: Path) -> None:
    (file,) = folder.glob("policy_postprocessor_step_*.safetensors")
    kept = {k: v for k, v in load_file(file).items() if not k.startswith("action.")}
    save_file(kept, file)


def drop_unnormalizer(folder: Path) -> None:
    def change(content: dict) -> None:
        content["steps"] = [s for s in content["steps"] if "unnorm" not in s["registry_name"]]

    edit_json("policy_postprocessor.json", change)(folder)


def drop_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights.pop(next(k for k in weights if "action_head" in k))
    save_file(weights, folder / "model.safetensors")


def poison(column: str, value: float) -> Damage:
    def damage(folder: Path) -> None:
        (file,) = folder.glob("data/*/*.parquet")
        table = pq.read_table(file)
        values = table.column(column).to_pylist()
        values[12][1] = value  # episode 1, frame 3, dim 1
        at = table.schema.get_field_index(column)
        table = table.set_column(
            at, table.schema.field(at), pa.array(values, table.schema.field(at).type)
        )
        pq.write_table(table, file)

    return damage


BAD_DATASETS: list[tuple[str, Damage, str]] = [
    ("no such directory", shutil.rmtree, "no such directory"),
    ("not a dataset", remove("meta/info.json"), "without meta/info.json"),
    ("info.json is not JSON", truncate("meta/info.json"), "expected JSON"),
    (
        "v2.1",
        edit_json("meta/info.json", lambda c: c.update(codebase_version="v2.1")),
        "policyscope convert",
    ),
    ("missing parquet", remove("data/*/*.parquet"), "data/chunk-000/file-000.parquet"),
    ("truncated parquet", truncate("data/*/*.parquet"), "files that can be read"),
    ("truncated episodes", truncate("meta/episodes/*/*.parquet"), "files that can be read"),
    ("NaN in actions", poison("action", float("nan")), "nan in episode 1, frame 3, dim 1"),
    ("inf in states", poison(fakes.STATE, float("inf")), "inf in episode 1, frame 3, dim 1"),
    (
        "no action statistics",
        edit_json("meta/stats.json", lambda c: c.pop("action")),
        "dataset_stats_missing",
    ),
]


@pytest.mark.parametrize(
    ("damage", "said"), [b[1:] for b in BAD_DATASETS], ids=[b[0] for b in BAD_DATASETS]
)
def test_bad_dataset(
    damage: Damage,
    said: str,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = tmp_path / "d"
    shutil.copytree(data, root)
    damage(root)
    assert run_cli(*eval_words(root, None, tmp_path / "out")) == 2
    one_line(capsys, said)


@pytest.mark.parametrize("damage", [remove("videos/*/*/*.mp4"), truncate("videos/*/*/*.mp4")])
def test_bad_video(
    damage: Damage, act: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = fakes.write_dataset(tmp_path / "d", lengths=(4, 5), video=True)
    damage(root)
    assert run_cli(*eval_words(root, act, tmp_path / "out", "--device", "cpu")) == 2
    one_line(capsys, "observation.image")


BAD_CHECKPOINTS: list[tuple[str, Damage, str]] = [
    ("no such directory", shutil.rmtree, "no such directory"),
    ("no config", remove("config.json"), "no config.json"),
    ("no weights", remove("model.safetensors"), "expected model.safetensors"),
    ("truncated weights", truncate("model.safetensors"), "bytes that don't parse"),
    ("truncated config", truncate("config.json"), "expected JSON"),
    ("no preprocessor", remove("policy_preprocessor.json"), "policy_preprocessor.json"),
    ("no postprocessor", remove("policy_postprocessor.json"), "--stats dataset makes it anew"),
    ("no unnormalizer", drop_unnormalizer, "unnormalizer_missing"),
    ("no action statistics", without_action_stats, "action.mean and action.std"),
    (
        "a normalizer that passes over the state",
        edit_json(
            "policy_preprocessor.json",
            lambda c: [s["config"].update(features={}) for s in c["steps"] if s.get("state_file")],
        ),
        "input_not_normalized",
    ),
    (
        "truncated statistics",
        truncate("policy_postprocessor_step_*.safetensors"),
        "bytes that don't parse",
    ),
    ("missing weights", drop_weight, "weights for every part of the network"),
    (
        "unknown type",
        edit_json("config.json", lambda c: c.update(type="telepathy")),
        "telepathy",
    ),
    (
        "foreign code",
        edit_json("policy_preprocessor.json", lambda c: c["steps"].append({"class": "os.system"})),
        "runs no code",
    ),
]


@pytest.mark.parametrize(
    ("damage", "said"), [b[1:] for b in BAD_CHECKPOINTS], ids=[b[0] for b in BAD_CHECKPOINTS]
)
def test_bad_checkpoint(
    damage: Damage,
    said: str,
    data: Path,
    act: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    policy = tmp_path / "p"
    shutil.copytree(act, policy)
    damage(policy)
    assert run_cli(*eval_words(data, policy, tmp_path / "out")) == 2
    one_line(capsys, said)


def one_line(capsys: pytest.CaptureFixture[str], said: str) -> None:
    """The complaint is one line with all three parts, behind the stages that went well."""
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith(("error", "refused"))]
    assert len(lines) == 1, lines
    for part in ("expected", "found", "Fix: ", said):
        assert part in lines[0], lines[0]


BAD_FLAGS = [
    (["--batch_size", "0"], "--batch_size"),
    (["--dataset.episodes", "5:5"], "names none"),
    (["--dataset.episodes", "0:99"], "indices from 0 to 5"),
    (["--dataset.episodes", "x"], "slices and lists"),
    (["--rename_map", '{"observation.nose": "observation.image"}'], "observation.nose"),
    (["--rename_map", '{"observation.image": "observation.tail"}'], "observation.tail"),
    (["--action_dims", "0,7"], "indices from 0 to 1"),
    (["--action_dims", "0,0"], "each dim once"),
    (["--n_action_steps", "7"], "n_action_steps_too_long"),
    (["--device", "cuda"], "no cuda"),
    (["--dataset.action_units", "px,px,px"], "one for each action dim"),
]


@pytest.mark.parametrize(("flags", "said"), BAD_FLAGS, ids=[" ".join(b[0]) for b in BAD_FLAGS])
def test_bad_flags(
    flags: list[str],
    said: str,
    data: Path,
    act: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if "cuda" in flags and torch.cuda.is_available():
        pytest.skip("this machine has cuda")
    assert run_cli(*eval_words(data, act, tmp_path / "out", *flags)) == 2
    one_line(capsys, said)


def test_the_founding_case_is_refused(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Six action dims on a dataset of two: never sliced in silence."""
    six = fakes.write_dataset(tmp_path / "six", dim=6, state_dim=2, lengths=(4,))
    policy = fakes.write_policy(tmp_path / "p", six, "act", action_dim=6)
    out = tmp_path / "out"
    px = ("--dataset.action_units", "px")
    assert run_cli(*eval_words(data, policy, out, *px)) == 2
    one_line(capsys, "--action_dims")
    record = read_record(out)
    assert record["status"] == "refused"
    assert "summary" not in record
    errors = [f["code"] for f in record["findings"] if f["severity"] == "error"]
    assert errors == ["action_dim_mismatch"]
    assert run_cli(*eval_words(data, policy, out, "--force")) == 2  # no meaning to force
    picked = tmp_path / "picked"
    assert run_cli(*eval_words(data, policy, picked, "--action_dims", "3,5")) == 0
    assert read_record(picked)["actions"]["policy_dims"] == [3, 5]


def test_a_wrong_state_is_refused(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = fakes.write_dataset(tmp_path / "d", state_dim=5, lengths=(4,))
    policy = fakes.write_policy(tmp_path / "p", other, "act", state_dim=5)
    assert run_cli(*eval_words(data, policy, tmp_path / "out", "--force")) == 2
    one_line(capsys, "state_dim_mismatch")


def test_a_camera_without_a_source_is_refused_with_a_map(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = fakes.write_policy(
        tmp_path / "p", data, "smolvla", cameras={"observation.images.front": 64}
    )
    words = eval_words(data, policy, tmp_path / "out")
    assert run_cli(*words) == 2
    proposed = '{"observation.image": ["observation.images.front"]}'
    one_line(capsys, proposed)
    assert run_cli(*words, "--rename_map", proposed) == 0


def test_force_computes_and_says_so(
    tmp_path: Path, data: Path, act: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The founding bug, forced: the number is there, meaningless, and labelled as such."""
    policy = tmp_path / "p"
    shutil.copytree(act, policy)
    without_action_stats(policy)
    out = tmp_path / "out"
    words = eval_words(data, policy, out, "--force", "--dataset.action_units", "px")
    assert run_cli(*words) == 1
    record = read_record(out)
    assert record["forced"] is True
    assert record["actions"]["normalization"]["source"] == "none"
    assert "FORCED" in capsys.readouterr().out
    assert record["summary"]["step1"]["mae"]["value"] > 50  # raw actions lie near 100


def test_dataset_statistics_mend_missing_ones(tmp_path: Path, data: Path, act: Path) -> None:
    policy = tmp_path / "p"
    shutil.copytree(act, policy)
    without_action_stats(policy)
    assert run_cli(*eval_words(data, act, tmp_path / "whole")) == 0
    assert run_cli(*eval_words(data, policy, tmp_path / "mended", "--stats", "dataset")) == 0
    whole, mended = read_record(tmp_path / "whole"), read_record(tmp_path / "mended")
    assert mended["actions"]["normalization"]["source"] == "dataset"
    assert "stats_from_dataset" in [f["code"] for f in mended["findings"]]
    a, b = (r["summary"]["chunk"]["mae"]["value"] for r in (whole, mended))
    assert a == pytest.approx(b, rel=1e-6)


def test_statistics_of_another_dataset_are_noticed(tmp_path: Path, data: Path) -> None:
    stats = fakes.dataset_stats(data)
    stats["action"] = {**stats["action"], "mean": stats["action"]["mean"] + 500}
    policy = fakes.write_policy(tmp_path / "p", data, "act", stats=stats)
    assert run_cli(*eval_words(data, policy, tmp_path / "out")) == 0
    assert "stats_mismatch" in [f["code"] for f in read_record(tmp_path / "out")["findings"]]


def test_other_warnings(tmp_path: Path, act: Path, smolvla: Path) -> None:
    root = fakes.write_dataset(tmp_path / "d", lengths=(4,), tasks=(" ",), size=96)
    slow = tmp_path / "p"
    shutil.copytree(smolvla, slow)
    (slow / "train_config.json").write_text('{"dataset": {"fps": 30}}')
    for policy, expected in (
        (slow, {"task_text_missing", "fps_mismatch", "image_shape_mismatch", "few_episodes"}),
        (act, {"image_shape_mismatch", "few_episodes"}),
    ):
        out = tmp_path / f"out-{policy.name}"
        assert run_cli(*eval_words(root, policy, out)) == 0
        assert expected <= {f["code"] for f in read_record(out)["findings"]}


def test_dims_in_another_order_are_found_by_name(tmp_path: Path) -> None:
    """The advised fix pairs each dim with its namesake (only some policy types record names)."""
    root = fakes.write_dataset(tmp_path / "d", names=["x", "y"], lengths=(5, 6))
    policy = fakes.write_policy(tmp_path / "p", root, "act")
    edit_json("config.json", lambda c: c.update(action_feature_names=["y", "x"]))(policy)
    (found,) = check(fakes.config_for(root, policy, tmp_path / "o")).findings
    assert (found.code, found.severity) == ("action_names_mismatch", "error")
    assert found.fix == "--action_dims x,y"
    mended = check(fakes.config_for(root, policy, tmp_path / "o", action_dims="x,y"))
    assert "action_names_mismatch" not in [f.code for f in mended.findings]
    assert mended.alignment.policy_dims == (1, 0)
    assert mended.alignment.dataset_dims == (0, 1)
    by_index = check(fakes.config_for(root, policy, tmp_path / "o", action_dims="0,1"))
    assert "action_names_mismatch" in [f.code for f in by_index.findings]


def test_nan_in_predictions(
    tmp_path: Path, data: Path, act: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = tmp_path / "p"
    shutil.copytree(act, policy)
    weights = load_file(policy / "model.safetensors")
    weights["model.action_head.bias"][1] = float("nan")
    save_file(weights, policy / "model.safetensors")
    assert run_cli(*eval_words(data, policy, tmp_path / "out")) == 2
    one_line(capsys, "nan in episode 0, frame 0, horizon step 1, dim action[1]")


def test_check_finds_the_same_without_running(
    tmp_path: Path, data: Path, act: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    who = ["--dataset.repo_id", "fake/data", "--dataset.root", str(data)]
    who += ["--dataset.action_units", "px"]
    assert run_cli("check", "--policy.path", str(act), *who, "--frames", "0", "--json") == 0
    assert json.loads(capsys.readouterr().out) == []
    policy = tmp_path / "p"
    shutil.copytree(act, policy)
    without_action_stats(policy)
    assert run_cli("check", "--policy.path", str(policy), *who) == 1
    assert "action_stats_missing" in capsys.readouterr().out


def test_hub_names_without_network_answer_at_once(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hub that refuses connections, as a machine without network does."""
    import huggingface_hub

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    words = eval_words(data, None, tmp_path / "out")
    words[1:3] = ["--policy.path", "nobody/nothing"]
    assert run_cli(*words) == 2
    one_line(capsys, "Name or service not known")


def test_a_hub_name_is_opened_like_a_directory(
    data: Path, act: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub path is real code: only the download itself is replaced by a local folder."""
    import huggingface_hub

    asked: list[tuple[str, dict]] = []

    def download(repo_id: str, **settings: object) -> str:
        asked.append((repo_id, settings))
        return str(act)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    words = eval_words(data, None, tmp_path / "out")
    words[1:3] = ["--policy.path", "someone/act", "--policy.revision", "v1"]
    assert run_cli(*words) == 0
    assert asked[0][0] == "someone/act"
    assert asked[0][1]["revision"] == "v1"
    assert not any("py" in pattern for pattern in asked[0][1]["allow_patterns"])


@pytest.mark.parametrize(
    ("theirs", "ours", "apart"),
    [
        ((0.0, 0.0), (0.0, 0.0), False),  # it rests in both
        ((-1.0, 0.0), (-1.0, 3e-9), False),  # but for rounding
        ((500.0002, 0.0), (500.0, 0.0), False),
        ((0.0, 0.0), (1.0, 0.0), True),  # it rests elsewhere
        ((0.0, 0.2), (0.0, 0.0), True),  # it moved in the training
        ((0.0, 0.0), (0.0, 0.2), True),  # it moves here
        ((0.1, 0.2), (0.1, 0.2), False),
    ],
)
def test_a_dim_that_rests_is_compared_by_where(
    theirs: tuple[float, float], ours: tuple[float, float], apart: bool
) -> None:
    from policyscope.actions.spaces import ActionSchema
    from policyscope.checks.statistics import _apart

    tables = [{"mean": [mean], "std": [std]} for mean, std in (theirs, ours)]
    assert bool(_apart(*tables, (0,), (0,), ActionSchema(("a",), ("rad",)))) is apart
