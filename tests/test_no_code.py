"""A checkpoint never runs code: whatever its files name is refused before anything is imported."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import fakes
from policyscope.config import PolicyConfig
from policyscope.errors import CheckpointError
from policyscope.policies.reading import read_checkpoint

PRE, POST = "policy_preprocessor.json", "policy_postprocessor.json"
Damage = Callable[[Path, Path], None]
"""What is done to a copy of a checkpoint; the second folder lies outside it, with a canary."""


def edit(name: str, change: Callable[[dict[str, Any]], Any]) -> Damage:
    def damage(folder: Path, _: Path) -> None:
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return damage


def edit_outside(name: str, change: Callable[[dict[str, Any], Path], Any]) -> Damage:
    def damage(folder: Path, outside: Path) -> None:
        edit(name, lambda content: change(content, outside))(folder, outside)

    return damage


def step(**entry: Any) -> Damage:
    """A further step of the preprocessor; OUTSIDE stands for the folder with the canary."""

    def change(content: dict[str, Any], outside: Path) -> None:
        text = json.dumps({"config": {}, **entry}).replace("OUTSIDE", str(outside))
        content["steps"].insert(0, json.loads(text))

    return edit_outside(PRE, change)


def of_step(name: str, **values: Any) -> Damage:
    """Other values in a step that is there."""

    def change(content: dict[str, Any], outside: Path) -> None:
        (found,) = (s for s in content["steps"] if s["registry_name"] == name)
        text = json.dumps(values).replace("OUTSIDE", str(outside))
        found.update(json.loads(text))

    return edit_outside(PRE, change)


def tokenizer(**values: Any) -> Damage:
    def change(content: dict[str, Any], outside: Path) -> None:
        (found,) = (s for s in content["steps"] if s["registry_name"] == "tokenizer_processor")
        found["config"].update(json.loads(json.dumps(values).replace("OUTSIDE", str(outside))))

    return edit_outside(PRE, change)


def config(**values: Any) -> Damage:
    return edit_outside(
        "config.json",
        lambda content, outside: content.update(
            json.loads(json.dumps(values).replace("OUTSIDE", str(outside)))
        ),
    )


def of_model(name: str, **values: Any) -> Damage:
    return edit(f"vlm/{name}.json", lambda content: content.update(values))


def written(name: str, text: str) -> Damage:
    def damage(folder: Path, _: Path) -> None:
        (folder / name).write_text(text)

    return damage


def linked(name: str) -> Damage:
    """The file itself, moved out of the folder and linked to."""

    def damage(folder: Path, outside: Path) -> None:
        shutil.move(folder / name, outside / Path(name).name)
        (folder / name).symlink_to(outside / Path(name).name)

    return damage


def pipe(name: str) -> Damage:
    def damage(folder: Path, _: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return damage


def statistics(target: str) -> Damage:
    """The normalizer's statistics under a name that leads out of the folder."""

    def damage(folder: Path, outside: Path) -> None:
        (file,) = folder.glob("policy_preprocessor_step_*.safetensors")
        shutil.copy(file, outside / "stats.safetensors")
        shutil.copy(file, folder.parent / "stats.safetensors")
        of_step("normalizer_processor", state_file=target)(folder, outside)

    return damage


def shards(name: str) -> Damage:
    def damage(folder: Path, outside: Path) -> None:
        shutil.move(folder / "model.safetensors", outside / "model.safetensors")
        index = {"weight_map": {"a": name.replace("OUTSIDE", str(outside))}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return damage


def adapter(folder: Path, _: Path) -> None:
    (folder / "model.safetensors").unlink()
    tensors = {"base_model.model.x.lora_A.weight": np.zeros((2, 3), np.float32)}
    save_file(tensors, folder / "adapter_model.safetensors")
    content = {"peft_type": "LORA", "base_model_name_or_path": "evil\x1b[31m/base"}
    (folder / "adapter_config.json").write_text(json.dumps(content))


def also(*damages: Damage) -> Damage:
    def damage(folder: Path, outside: Path) -> None:
        for each in damages:
            each(folder, outside)

    return damage


CLASSES = [
    {"class": "lerobot.envs.utils._load_module_from_path", "config": {"path": "OUTSIDE/evil.py"}},
    {"class": "lerobot.configs.parser.load_plugin", "config": {"plugin_path": "evil"}},
    {
        "class": "lerobot.envs.factory.make_env",
        "config": {"cfg": "someone/env", "trust_remote_code": True},
    },
    {
        "class": "lerobot.policies.pretrained.hf_hub_download",
        "config": {"repo_id": "someone/x", "filename": "x"},
    },
    {
        "class": "lerobot.rewards.factory.make_reward_model",
        "config": {"cfg": "OUTSIDE/evil.py"},
    },
    {"class": "lerobot.processor.normalize_processor.NormalizerProcessorStep"},
    {"class": "os.system", "config": {"command": "touch OUTSIDE/ran"}},
    {"class": "evil.Step"},
    {"class": "evil"},
    {"class": ["evil"]},
    {"registry_name": None, "class": "evil.Step"},
    {"registry_name": "action_tokenizer_processor"},
    {"registry_name": "groot_n1_7_vlm_encode_v1", "config": {"model_name": "someone/x"}},
    {"registry_name": "reward_classifier_processor", "config": {"pretrained_path": "OUTSIDE"}},
    {"registry_name": "inverse_kinematics_ee_to_joints", "config": {"kinematics": "OUTSIDE"}},
    {"registry_name": "normalizer_processor\n"},
]

CASES: list[tuple[str, Damage, str]] = [
    *((f"step {i}: {entry}"[:60], step(**entry), "no code") for i, entry in enumerate(CLASSES)),
    ("state file above", statistics("../stats.safetensors"), "inside the checkpoint's folder"),
    ("state file absolute", statistics("OUTSIDE/stats.safetensors"), "inside the checkpoint's"),
    ("state file with NUL", of_step("normalizer_processor", state_file="a\0b"), "inside the"),
    (
        "state file linked out",
        linked("policy_preprocessor_step_5_normalizer_processor.safetensors"),
        "a link to",
    ),
    (
        "state file a pipe",
        pipe("policy_preprocessor_step_5_normalizer_processor.safetensors"),
        "a regular file",
    ),
    ("tokenizer outside", tokenizer(tokenizer_name="OUTSIDE"), "copy that folder into"),
    ("tokenizer above", tokenizer(tokenizer_name="../outside"), "copy that folder into"),
    ("tokenizer in the working directory", tokenizer(tokenizer_name="near"), "working directory"),
    ("tokenizer object", tokenizer(tokenizer="evil.Tokenizer"), "tokenizer"),
    ("tokenizer with code", tokenizer(trust_remote_code=True), "trust_remote_code"),
    ("tokenizer of absurd length", tokenizer(max_length=10**9), "at most 32768"),
    ("language model outside", config(vlm_model_name="OUTSIDE"), "copy that folder into"),
    ("language model above", config(vlm_model_name="../outside"), "copy that folder into"),
    ("code beside the config", config(auto_map={"AutoModel": "evil.Model"}), "no foreign code"),
    ("trust in the config", config(trust_remote_code=True), "no foreign code"),
    ("a kernel from the hub", config(attn_implementation="someone/kernel"), "a kernel from"),
    ("auto_map of the model", of_model("config", auto_map={"AutoConfig": "evil.C"}), "'auto_map'"),
    (
        "auto_map within",
        of_model("config", text_config={"auto_map": {"AutoModel": "evil.M"}}),
        "'auto_map'",
    ),
    (
        "auto_map of the tokenizer",
        of_model("tokenizer_config", auto_map=["evil.T", None]),
        "'auto_map'",
    ),
    (
        "auto_map of the processor",
        of_model("processor_config", auto_map={"AutoProcessor": "evil.P"}),
        "'auto_map'",
    ),
    ("kernel of the model", of_model("config", _attn_implementation="a/b"), "a kernel from"),
    (
        "tokenizer files by version",
        of_model("tokenizer_config", fast_tokenizer_files=["tokenizer.../../outside/x.json"]),
        "fast_tokenizer_files",
    ),
    (
        "tokenizer file elsewhere",
        of_model("tokenizer_config", vocab_file="/etc/passwd"),
        "vocab_file",
    ),
    ("adapter in the model", written("vlm/adapter_config.json", "{}"), "an adapter"),
    ("file of the model linked out", linked("vlm/config.json"), "a link to"),
    ("folder of the model linked out", linked("vlm"), "copy that folder into"),
    ("file of the model a pipe", pipe("vlm/tokenizer.json"), "a regular file"),
    ("config linked out", linked("config.json"), "a link to"),
    ("config a pipe", pipe("config.json"), "a regular file"),
    ("processor linked out", linked(POST), "a link to"),
    (
        "training linked out",
        also(written("train_config.json", "{}"), linked("train_config.json")),
        "a link to",
    ),
    ("weights linked out", linked("model.safetensors"), "a link to"),
    ("weights a pipe", pipe("model.safetensors"), "a regular file"),
    ("shard above", shards("../outside/model.safetensors"), "inside the checkpoint's folder"),
    ("shard absolute", shards("OUTSIDE/model.safetensors"), "inside the checkpoint's folder"),
    ("adapter of another policy", adapter, "a LoRA adapter for"),
    *(
        (f"type {kind}", config(type=kind), "trusts such code")
        for kind in ("gaussian_actor", "groot", "pi0_fast", "wall_x")
    ),
    ("type as a path", config(type="../evil"), "type"),
    ("type as code", config(type={"class": "evil"}), "type"),
]


@pytest.fixture(scope="module")
def answers(smolvla: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Every case read in one fresh process, which says what it answered and what it imported."""
    where = tmp_path_factory.mktemp("no-code")
    for i, (_, damage, _) in enumerate(CASES):
        folder, outside = where / str(i) / "policy", where / str(i) / "outside"
        shutil.copytree(smolvla, folder)
        outside.mkdir()
        evil = f"import pathlib\npathlib.Path({str(outside / 'ran')!r}).touch()\n"
        for place in (folder, outside, where / str(i)):
            (place / "evil.py").write_text(evil)
        (where / str(i) / "near").mkdir()
        damage(folder, outside)
    code = """
import json, os, sys, time
from policyscope.config import PolicyConfig
from policyscope.errors import PolicyscopeError
from policyscope.policies.reading import read_checkpoint
answers = {}
for i in range(int(sys.argv[2])):
    os.chdir(f"{sys.argv[1]}/{i}")
    begin = time.monotonic()
    try:
        read_checkpoint(PolicyConfig(path=f"{sys.argv[1]}/{i}/policy"))
        answers[i] = "opened"
    except PolicyscopeError as error:
        answers[i] = str(error)
    assert time.monotonic() - begin < 5
heavy = ("lerobot", "torch", "transformers", "evil")
answers["imported"] = " ".join(m for m in heavy if m in sys.modules)
print(json.dumps(answers))
"""
    run = subprocess.run(
        [sys.executable, "-c", code, str(where), str(len(CASES))],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    found: dict[str, str] = json.loads(run.stdout)
    found["ran"] = " ".join(str(p) for p in where.glob("*/outside/ran"))
    return found


@pytest.mark.parametrize("i", range(len(CASES)), ids=[name for name, _, _ in CASES])
def test_code_and_ways_out_are_refused(i: int, answers: dict[str, str]) -> None:
    answer = answers[str(i)]
    assert CASES[i][2] in answer
    assert "expected" in answer
    assert "Fix: " in answer
    assert "\n" not in answer


def test_nothing_was_imported_or_run(answers: dict[str, str]) -> None:
    assert answers["imported"] == ""
    assert answers["ran"] == ""


def test_the_whole_checkpoint_is_read(smolvla: Path) -> None:
    """The cases start from one that opens, so that each is refused for its own sake."""
    checkpoint = read_checkpoint(PolicyConfig(path=str(smolvla)))
    assert checkpoint.type == "smolvla"
    assert list(checkpoint.models.values()) == [smolvla.resolve() / "vlm"]


def test_what_training_ran_in_is_not_imported(act: Path, tmp_path: Path) -> None:
    policy = tmp_path / "p"
    shutil.copytree(act, policy)
    trained = {
        "env": {"type": "evil", "discover_packages_path": "evil", "package_name": "evil"},
        "policy": {
            "type": "act",
            "pretrained_path": "/elsewhere",
            "discover_packages_path": "evil",
        },
    }
    (policy / "train_config.json").write_text(json.dumps(trained))
    before = set(sys.modules)
    read_checkpoint(PolicyConfig(path=str(policy)))
    assert not any("evil" in name for name in set(sys.modules) - before)


def hub_layout(policy: Path, where: Path, repo: str = "someone/policy") -> Path:
    """A snapshot as the hub's cache has it: links to blobs."""
    root = where / f"models--{repo.replace('/', '--')}"
    snapshot, blobs = root / "snapshots" / ("a" * 40), root / "blobs"
    blobs.mkdir(parents=True)
    for i, file in enumerate(f for f in sorted(policy.rglob("*")) if f.is_file()):
        link = snapshot / file.relative_to(policy)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, blobs / f"{i:064x}")
        link.symlink_to(os.path.relpath(blobs / f"{i:064x}", link.parent))
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("a" * 40)
    return snapshot


def test_the_layout_of_the_hubs_cache_works(smolvla: Path, tmp_path: Path) -> None:
    snapshot = hub_layout(smolvla, tmp_path)
    theirs = read_checkpoint(PolicyConfig(path=str(smolvla)))
    ours = read_checkpoint(PolicyConfig(path=str(snapshot)))
    assert (ours.sha256, ours.processors_sha256) == (theirs.sha256, theirs.processors_sha256)
    assert [f.parent for f in ours.weights.files] == [snapshot]


def test_blobs_of_another_repository_are_foreign(smolvla: Path, tmp_path: Path) -> None:
    snapshot = hub_layout(smolvla, tmp_path)
    other = tmp_path / "models--other" / "blobs"
    other.mkdir(parents=True)
    shutil.copy(smolvla / "config.json", other / "x")
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").symlink_to(other / "x")
    with pytest.raises(CheckpointError, match="a link to"):
        read_checkpoint(PolicyConfig(path=str(snapshot)))


def test_transformers_does_not_ask_whether_to_run_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model of the hub is named, not brought along: lerobot asks transformers for it."""
    from transformers import AutoConfig
    from transformers.integrations import hub_kernels

    from policyscope.policies.guard import no_foreign_code

    folder, ran = tmp_path / "model", tmp_path / "ran"
    folder.mkdir()
    named = {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil"}}
    (folder / "config.json").write_text(json.dumps(named))
    (folder / "evil.py").write_text(f"open({str(ran)!r}, 'w')\nclass Evil: ...\n")
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
    with no_foreign_code():
        with pytest.raises((CheckpointError, ValueError)):
            AutoConfig.from_pretrained(folder)
        with pytest.raises(CheckpointError, match="no foreign code"):
            AutoConfig.from_pretrained(folder, trust_remote_code=True)
        with pytest.raises(CheckpointError, match="no foreign code"):
            hub_kernels.get_kernel_hub("kernels-community/x")
    assert not ran.exists()
    assert "evil" not in sys.modules


def test_a_registered_name_that_is_no_step_is_refused(
    act: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a plugin might register anything: proved to be a step before it is called."""
    from lerobot.processor.pipeline import ProcessorStepRegistry

    from policyscope.policies import steps
    from policyscope.policies.opening import load_processors

    called = []
    monkeypatch.setitem(ProcessorStepRegistry._registry, "odd", lambda **_: called.append(1))
    monkeypatch.setattr(steps, "plugins", lambda: ("lerobot_policy_odd",))
    policy = tmp_path / "p"
    shutil.copytree(act, policy)
    step(registry_name="odd")(policy, tmp_path)
    checkpoint = read_checkpoint(PolicyConfig(path=str(policy)))
    with pytest.raises(CheckpointError, match="odd, which is none"):
        load_processors(checkpoint, None, "cpu", None)
    assert called == []


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"n_encoder_layers": 10**6}, "n_encoder_layers"),
        ({"dim_model": 10**9}, "dim_model"),
        ({"chunk_size": 10**12}, "chunk_size"),
        ({"latent_dim": 10**12}, "latent_dim"),
        (
            {"input_features": {"observation.image": {"type": "VISUAL", "shape": [3, 10**6]}}},
            "input_features",
        ),
        ({"input_features": {"x": {"type": "VISUAL", "shape": [3, 65536, 65536]}}}, "at most"),
        ({"output_features": {"action": {"type": "ACTION", "shape": [-2]}}}, "action.shape"),
        ({"output_features": {"action": {"type": "ACTION", "shape": []}}}, "at least one dim"),
        ({"output_features": {"action": {"type": "ACTION", "shape": [2.5]}}}, "action.shape"),
        ({"n_obs_steps": 10**9}, "n_obs_steps"),
        ({"n_action_steps": True}, "n_action_steps"),
        ({"n_action_steps": "3"}, "n_action_steps"),
    ],
)
def test_absurd_sizes_are_refused_at_the_door(
    values: dict[str, Any], said: str, act: Path, tmp_path: Path
) -> None:
    policy = tmp_path / "p"
    shutil.copytree(act, policy)
    config(**values)(policy, tmp_path)
    with pytest.raises(CheckpointError, match=said):
        read_checkpoint(PolicyConfig(path=str(policy)))


def test_a_network_beyond_its_weights_ends_in_one_line(act: Path, tmp_path: Path) -> None:
    """Within every bound, and still 50 GB: the allocator refuses, not the operating system."""
    from policyscope.policies.opening import load_policy, policy_config

    policy = tmp_path / "p"
    shutil.copytree(act, policy)
    config(dim_feedforward=200_000, dim_model=65_536, n_heads=2)(policy, tmp_path)
    checkpoint = read_checkpoint(PolicyConfig(path=str(policy)))
    with pytest.raises(CheckpointError, match="expected a checkpoint that lerobot can open"):
        load_policy(checkpoint, policy_config(checkpoint, "cpu"))
    assert fakes.STATE in checkpoint.inputs


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 10_000 + "]" * 10_000, "nested deeper than"),
        ("[]", "a JSON object"),
        ("null", "config.json"),
        ('{"type": "act", "kl_weight": NaN}', "which is no number"),
        ('{"type": "act", "kl_weight": ' + "9" * 5000 + "}", "JSON"),
        ("\x00\x01\xff", "JSON"),
        ("", "JSON"),
    ],
    ids=["deep", "list", "null", "NaN", "long", "bytes", "empty"],
)
def test_what_is_no_configuration(text: str, said: str, act: Path, tmp_path: Path) -> None:
    policy = tmp_path / "p"
    shutil.copytree(act, policy)
    (policy / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(CheckpointError, match=said):
        read_checkpoint(PolicyConfig(path=str(policy)))
