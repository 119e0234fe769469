"""LoRA adapters as lerobot-train saves them: the predictions are those of the merged policy."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import fakes
from policyscope.commands.cli import main
from policyscope.commands.evaluate import evaluate
from policyscope.config import PolicyConfig
from policyscope.errors import InputError
from policyscope.policies.reading import read_checkpoint
from policyscope.runs.directory import RunDirectory
from test_declared import run, sharded

peft = pytest.importorskip("peft")
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
LINEAR = ["q_proj", "v_proj", "action_out_proj"]


@pytest.fixture(scope="module")
def base(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.write_policy(tmp_path_factory.mktemp("base") / "base", data, "smolvla")


def adapted(base: Path, out: Path, inside: bool = True, **settings: Any) -> Path:
    """An adapter in lerobot's own hand, its weights drawn at random."""
    from lerobot.configs import PreTrainedConfig
    from lerobot.policies.factory import get_policy_class

    config: Any = PreTrainedConfig.from_pretrained(base)
    config.vlm_model_name = str(base / "vlm")
    config.pretrained_path = "base"
    policy = get_policy_class("smolvla").from_pretrained(base, config=config)
    model: Any = policy.wrap_with_peft(peft_cli_overrides={"r": 4, "lora_alpha": 6, **settings})
    draw = torch.Generator().manual_seed(1)
    for name, values in model.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            with torch.no_grad():
                values.copy_(0.3 * torch.randn(values.shape, generator=draw) + values)
    model.save_pretrained(out)
    config.save_pretrained(out)
    for file in base.glob("policy_p*"):
        shutil.copy(file, out)
    shutil.copytree(base / "vlm", out / "vlm")
    if inside:
        shutil.copytree(base, out / "base")
    return out


def by_hand(base: Path, adapter: Path, out: Path) -> Path:
    """The whole policy: W + alpha / r · B A, with plain matrices."""
    shutil.copytree(base, out)
    weights = load_file(base / "model.safetensors")
    settings = json.loads((adapter / CONFIG).read_text())
    low = {k.removeprefix("base_model.model."): v for k, v in load_file(adapter / WEIGHTS).items()}
    for key, values in low.items():
        name = key.removesuffix(".lora_A.weight")
        if name == key:
            if ".lora_" not in key:
                weights[key] = values
            continue
        rank = values.shape[0]
        alpha = settings["alpha_pattern"].get(name.rpartition(".")[2], settings["lora_alpha"])
        scale = alpha / (math.sqrt(rank) if settings["use_rslora"] else rank)
        weights[f"{name}.weight"] += scale * low[f"{name}.lora_B.weight"] @ values
    save_file(weights, out / "model.safetensors")
    return out


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"target_modules": LINEAR, "use_rslora": True},
        {
            "target_modules": LINEAR,
            "rank_pattern": {"q_proj": 2},
            "alpha_pattern": {"v_proj": 12},
        },
        {"target_modules": ["q_proj"], "full_training_modules": ["state_proj"]},
    ],
    ids=["lerobot's defaults", "rank-stabilized", "patterns", "modules trained whole"],
)
def test_an_adapter_is_its_merged_policy(
    settings: dict[str, Any], data: Path, base: Path, tmp_path: Path
) -> None:
    adapter = adapted(base, tmp_path / "adapter", **settings)
    whole = by_hand(base, adapter, tmp_path / "whole")
    _, bare = run(data, base, tmp_path / "bare")
    record, ours = run(data, adapter, tmp_path / "a")
    theirs_record, theirs = run(data, whole, tmp_path / "b")
    assert np.abs(theirs - bare).max() > 0.05, "the adapter does something"
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-3)
    codes = [finding["code"] for finding in record["findings"]]
    assert "adapter_merged" in codes
    assert record["policy"]["sha256"] not in (None, theirs_record["policy"]["sha256"])


def test_a_base_may_be_named_and_sharded(data: Path, base: Path, tmp_path: Path) -> None:
    adapter = adapted(base, tmp_path / "adapter", inside=False)
    elsewhere = sharded(Path(shutil.copytree(base, tmp_path / "elsewhere")), 2)
    whole = by_hand(base, adapter, tmp_path / "whole")
    given = PolicyConfig(path=str(adapter), base=str(elsewhere))
    config = fakes.config_for(data, adapter, tmp_path / "o", episodes="2", max_frames=5)
    evaluate(dataclasses.replace(config, policy=given))
    (stored,) = RunDirectory(tmp_path / "o").stored()
    _, theirs = run(data, whole, tmp_path / "w")
    np.testing.assert_allclose(stored.predicted[0].values, theirs, rtol=1e-4, atol=1e-3)


def test_a_base_outside_is_not_opened(base: Path, tmp_path: Path) -> None:
    adapter = adapted(base, tmp_path / "adapter", inside=False)
    for name in (str(base), "../base", "outputs/train/x/checkpoints/last/pretrained_model", None):
        edit(adapter, base_model_name_or_path=name)
        with pytest.raises(InputError, match=r"--policy\.base DIR_OR_REPO"):
            read_checkpoint(PolicyConfig(path=str(adapter)))


def edit(adapter: Path, **settings: Any) -> None:
    content = json.loads((adapter / CONFIG).read_text())
    (adapter / CONFIG).write_text(json.dumps({**content, **settings}))


def test_patterns_are_never_matched(data: Path, base: Path, tmp_path: Path) -> None:
    """They can be made to take for ever; those of modules are not needed, others refused."""
    adapter = adapted(base, tmp_path / "adapter")
    endless = "(a|a|[a-z._0-9])*" * 20 + "!"
    edit(adapter, target_modules=endless, rank_pattern={endless: 3}, exclude_modules=endless)
    run(data, adapter, tmp_path / "o")
    edit(adapter, alpha_pattern={endless: 3})
    with pytest.raises(InputError, match="names of modules"):
        run(data, adapter, tmp_path / "p")


def _settings(**settings: Any) -> Callable[[Path], None]:
    return lambda adapter: edit(adapter, **settings)


def _other_network(adapter: Path) -> None:
    weights = load_file(adapter / WEIGHTS)
    weights["base_model.model.model.nowhere.lora_A.weight"] = torch.zeros(4, 8)
    weights["base_model.model.model.nowhere.lora_B.weight"] = torch.zeros(8, 4)
    save_file(weights, adapter / WEIGHTS)


def _pickled(adapter: Path) -> None:
    (adapter / WEIGHTS).rename(adapter / "adapter_model.bin")


def _truncated(adapter: Path) -> None:
    (adapter / WEIGHTS).write_bytes((adapter / WEIGHTS).read_bytes()[:100])


def _act(adapter: Path) -> None:
    config = json.loads((adapter / "base/config.json").read_text())
    (adapter / "base/config.json").write_text(json.dumps({**config, "type": "act"}))


@pytest.mark.parametrize(
    ("bend", "said"),
    [
        (_settings(peft_type="IA3"), "peft_type"),
        (_settings(lora_alpha="many"), "lora_alpha"),
        (_settings(use_qalora=True), "use_qalora"),
        (_other_network, "nowhere"),
        (_pickled, "pickled weights are never loaded"),
        (_truncated, "adapter_model.safetensors"),
        (_act, "a policy of type smolvla"),
        (lambda a: (a / "config.json").unlink(), "config.json"),
    ],
)
def test_what_is_no_adapter_is_one_line(
    bend: Callable[[Path], None],
    said: str,
    data: Path,
    base: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    adapter = adapted(base, tmp_path / "adapter")
    bend(adapter)
    words = ["eval", "--policy.path", str(adapter), "--dataset.root", str(data)]
    with pytest.raises(SystemExit) as end:
        main([*words, "--output_dir", str(tmp_path / "o")])
    assert end.value.code == 2
    error = [line for line in capsys.readouterr().err.splitlines() if "expected" in line]
    assert len(error) == 1
    assert said in error[0]


def test_a_whole_policy_has_no_base(base: Path) -> None:
    with pytest.raises(InputError, match="a whole policy"):
        read_checkpoint(PolicyConfig(path=str(base), base="x/y"))
