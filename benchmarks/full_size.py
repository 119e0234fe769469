"""A SmolVLA of the public size with random weights on this CPU: what is computed once, and how.

python benchmarks/full_size.py SMOLVLM2_500M_FILES samples,cameras,bfloat16,int8

Needs config, tokenizer and processor files of SmolVLM2-500M, no weights. Three 512 px cameras,
chunks of 50 steps, ten denoising steps. Equal outputs first, then all competitors in turn:

- samples: K predictions of a frame beside one of them, and where their time goes (profiled calls);
- cameras: one camera and two that are empty, by policyscope and by lerobot's own code;
- bfloat16: weights as the public checkpoint has them, and made float32, which loses nothing.
  ONEDNN_MAX_CPU_ISA=AVX512_CORE hides a CPU's units for bfloat16;
- int8: the linear layers of the vision tower and the MLPs of the rest quantized by torch.ao, with
  rounding that follows each batch.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies.smolvla.configuration_smolvla import SmolVLAConfig
from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy
from lerobot.utils.constants import OBS_LANGUAGE_ATTENTION_MASK, OBS_LANGUAGE_TOKENS
from rate import GROUPS
from ratios import interleaved, line, machine, operations, ratio
from torch.profiler import ProfilerActivity, profile

from policyscope.policies.linear import by_onednn
from policyscope.policies.precision import bfloat16_units
from policyscope.policies.smolvla import Sampler, speed_up

CAMERAS = tuple(f"observation.images.camera{i}" for i in (1, 2, 3))
Call = Callable[[], torch.Tensor]


def network(files: str, device: str = "cpu", *, cameras: int = 3) -> Any:
    """lerobot's policy with random weights, mostly bfloat16; other cameras are empty ones."""
    seen = {key: PolicyFeature(FeatureType.VISUAL, (3, 512, 512)) for key in CAMERAS[:cameras]}
    config = SmolVLAConfig(
        vlm_model_name=files,
        load_vlm_weights=False,
        device=device,
        empty_cameras=len(CAMERAS) - cameras,
        input_features={"observation.state": PolicyFeature(FeatureType.STATE, (6,)), **seen},
        output_features={"action": PolicyFeature(FeatureType.ACTION, (6,))},
    )
    torch.manual_seed(0)
    return SmolVLAPolicy(config).to(device).eval()


def inputs(policy: Any, size: int, *, one: bool = False) -> tuple[dict[str, Any], torch.Tensor]:
    """Random observations, whose cameras may share `one` picture, and noise."""
    config, device = policy.config, policy.config.device
    present = [key for key in config.image_features if key in CAMERAS]
    tokens = torch.randint(0, 1000, (size, config.tokenizer_max_length), device=device)
    batch = {key: torch.rand(size, 3, 512, 512, device=device) for key in present}
    batch |= dict.fromkeys(present, batch[present[0]]) if one else {}
    batch["observation.state"] = torch.randn(size, 6, device=device)
    batch[OBS_LANGUAGE_TOKENS] = tokens
    batch[OBS_LANGUAGE_ATTENTION_MASK] = torch.ones_like(tokens, dtype=torch.bool)
    return batch, torch.randn(size, config.chunk_size, config.max_action_dim, device=device)


def faster(policy: Any) -> tuple[Any, Sampler]:
    """A copy that samples as policyscope does."""
    twin = copy.deepcopy(policy)
    by_onednn(twin)
    sampler = speed_up(twin)
    if sampler is None:
        raise SystemExit("policyscope's sampling does not give lerobot's actions here")
    return twin, sampler


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files")
    parser.add_argument("what")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print(f"{machine()}; units for bfloat16: {'yes' if bfloat16_units() else 'no'}")
    for what in args.what.split(","):
        print(f"\n{what}\n")
        if what == "samples":
            _samples(network(args.files).float(), args.samples, args.rounds)
        elif what == "cameras":
            _cameras(network(args.files, cameras=1).float(), args.rounds)
        elif what == "int8":
            _int8(network(args.files, cameras=1).float(), args.rounds)
        else:
            _bfloat16(network(args.files, cameras=1), args.rounds)


def _samples(policy: Any, k: int, rounds: int) -> None:
    batch, _ = inputs(policy, 1)
    _, noise = inputs(policy, k)
    policy, sampler = faster(policy)

    def together() -> torch.Tensor:
        with sampler.sharing(torch.zeros(k, dtype=torch.long)):
            return _asked(policy, batch, noise)()

    alone = torch.cat([_asked(policy, batch, noise[i : i + 1])() for i in (0, k - 1)])
    _say_apart(together()[[0, k - 1]], alone)
    calls = {"K = 1": _asked(policy, batch, noise[:1]), f"K = {k}": together}
    one, all_k = (operations(call) / 1e9 for call in calls.values())
    print(f"{one:.0f} GFLOP, {all_k:.0f} for K = {k}: {all_k / one:.2f} times as many")
    single, many = _table(calls, rounds)
    print(f"\nK = {k} against K = 1: {ratio(many, single)}")
    before, after = (_spent(call) for call in calls.values())
    print(f"\n| where the time goes, s | K = 1 | K = {k} |\n|---|---|---|")
    for group, seconds in after.most_common():
        print(f"| {group} | {before[group]:.2f} | {seconds:.2f} |")


def _spent(call: Call) -> Counter[str]:
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        call()
    spent = Counter[str]()
    for event in seen.key_averages():
        name = event.key.removeprefix("aten::").removeprefix("mkldnn::")
        group = next((g for g, names in GROUPS.items() if name in names), "other operations")
        spent[group] += event.self_cpu_time_total / 1e6
    return spent


def _cameras(policy: Any, rounds: int) -> None:
    batch, noise = inputs(policy, 1)
    twin, _ = faster(policy)
    calls = {
        "lerobot's predict_action_chunk": _asked(policy, batch, noise),
        "policyscope": _asked(twin, batch, noise),
    }
    theirs, ours = calls.values()
    _say_apart(ours(), theirs())
    before, after = _table(calls, rounds)
    print(f"\nlerobot's time over policyscope's: {ratio(before, after)}")


def _bfloat16(policy: Any, rounds: int) -> None:
    batch, noise = inputs(policy, 1)
    policy.model.vlm_with_expert.to(torch.bfloat16)
    half, _ = faster(policy)
    wide, _ = faster(policy.float())
    calls = {"bfloat16 weights": _asked(half, batch, noise), "float32": _asked(wide, batch, noise)}
    narrow, exact = calls.values()
    _say_apart(narrow().float(), exact())
    before, after = _table(calls, rounds)
    print(f"\nbfloat16's time over float32's: {ratio(before, after)}")


def _int8(policy: Any, rounds: int) -> None:
    from torch.ao.quantization import quantize_dynamic

    batch, noise = inputs(policy, 1)
    exact, _ = faster(policy)
    whole = policy.model.vlm_with_expert
    layers = [*whole.get_vlm_model().text_model.layers, *whole.lm_expert.layers]
    for part in (whole.get_vlm_model().vision_model.encoder, *(layer.mlp for layer in layers)):
        quantize_dynamic(part, {torch.nn.Linear}, inplace=True)
    by_onednn(policy)
    speed_up(policy)
    calls = {"float32": _asked(exact, batch, noise), "int8": _asked(policy, batch, noise)}
    plain, rough = calls.values()
    _say_apart(rough(), plain())
    before, after = _table(calls, rounds)
    print(f"\nfloat32's time over int8's: {ratio(before, after)}")


def _asked(policy: Any, batch: dict[str, Any], noise: torch.Tensor) -> Call:
    def call() -> torch.Tensor:
        with torch.inference_mode():
            answer: torch.Tensor = policy.predict_action_chunk(dict(batch), noise=noise)
        return answer

    return call


def _say_apart(one: torch.Tensor, other: torch.Tensor) -> None:
    print(f"actions at most {(one - other).abs().max() / other.std():.1e} of their deviation apart")


def _table(calls: dict[str, Call], rounds: int) -> list[list[float]]:
    def timed(call: Call) -> Callable[[], float]:
        def seconds() -> float:
            start = time.perf_counter()
            call()
            return time.perf_counter() - start

        return seconds

    found = interleaved({name: timed(call) for name, call in calls.items()}, rounds=rounds)
    print("\n| | median | range |\n|---|---|---|")
    for name, values in found.items():
        print(line(name, values, "s"))
    return list(found.values())


if __name__ == "__main__":
    main()
