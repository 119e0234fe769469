"""What is known about each policy type that lerobot has: one row a type.

A type without a row is opened with `--force` alone, and with the most careful assumptions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, final

Draws = Literal["none", "noise", "seeded", "unseeded"]
Shape = tuple[int, ...]
Read = Callable[[str], Any]
"""A field of a configuration by its name; None where it has none."""

Modes = Mapping[str, str]
"""Feature type (``ACTION``, ``STATE``, ``VISUAL``) → normalization mode."""


def _chunk_size(read: Read) -> int | None:
    return _whole(read("chunk_size"))


def _action_chunk_size(read: Read) -> int | None:
    return _whole(read("action_chunk_size"))


def _n_action_steps(read: Read) -> int | None:
    return _whole(read("n_action_steps"))


def _from_the_present(read: Read) -> int | None:
    """Steps that diffusion policies return: their horizon begins with the first observation."""
    wanted, horizon = _whole(read("n_action_steps")), _whole(read("horizon"))
    if wanted is None or horizon is None:
        return wanted
    return min(wanted, horizon - (_whole(read("n_obs_steps")) or 1) + 1)


def _anyhow(read: Read) -> int | None:
    """Types that nobody looked at: the first field that says something about length."""
    for name in ("chunk_size", "action_chunk_size", "n_action_steps", "horizon"):
        if (known := _whole(read(name))) is not None:
            return known
    return None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _no_noise(read: Read) -> Shape | None:
    del read
    return None


def _padded_chunk(read: Read) -> Shape | None:
    return (int(read("chunk_size")), int(read("max_action_dim")))


def _ddim(read: Read) -> Shape | None:
    """DDIM draws once; DDPM draws at every step, too."""
    if read("noise_scheduler_type") != "DDIM":
        return None
    return (int(read("horizon")), int(read("action_dim")))


_BY_MEAN: Modes = {"VISUAL": "MEAN_STD", "STATE": "MEAN_STD", "ACTION": "MEAN_STD"}
_BY_RANGE: Modes = {"VISUAL": "MEAN_STD", "STATE": "MIN_MAX", "ACTION": "MIN_MAX"}
_PICTURES_AS_THEY_ARE: Modes = {**_BY_MEAN, "VISUAL": "IDENTITY"}


@final
@dataclass(frozen=True)
class Kind:
    """A policy type.

    Attributes:
        name: as lerobot registers it.
        vouched: whether tests open it with and without statistics and find native units.
        runs_code: whether lerobot opens it with ``trust_remote_code``, whatever its config names.
        language: whether it reads the task text.
        modes: the normalization that lerobot's class has where ``config.json`` names none.
        chunk: steps of a chunk that it returns; None where the config says nothing.
        draws: ``none`` is deterministic, ``noise`` takes its initial noise as input, ``seeded``
            draws itself.
        noise: shape of that noise without the batch axis; None where a config of this type draws
            at every step.
        unfed: what lerobot does with a declared camera that gets no picture: it ``refuses``,
            ``drops`` it (up to ``empty_cameras`` of them get a masked picture), or ``masks`` it.
        models: fields that name a model or a tokenizer.
        fast: whether `policyscope.policies.smolvla` can sample it.
        step_first: whether chunks come as [H, B, A].
        cuts: whether it returns no more of a chunk than a robot runs.
    """

    name: str
    vouched: bool = False
    runs_code: bool = False
    language: bool = False
    modes: Modes = field(default_factory=lambda: MappingProxyType({}))
    chunk: Callable[[Read], int | None] = _anyhow
    draws: Draws = "seeded"
    noise: Callable[[Read], Shape | None] = _no_noise
    unfed: Literal["refuses", "drops", "masks"] = "refuses"
    models: tuple[str, ...] = ()
    fast: bool = False
    step_first: bool = False
    cuts: bool = False


_ROWS = (
    Kind("act", vouched=True, modes=_BY_MEAN, chunk=_chunk_size, draws="none"),
    Kind(
        "diffusion",
        vouched=True,
        modes=_BY_RANGE,
        chunk=_from_the_present,
        cuts=True,
        draws="noise",
        noise=_ddim,
    ),
    Kind(
        "multi_task_dit",
        vouched=True,
        language=True,
        modes=_BY_RANGE,
        chunk=_from_the_present,
        cuts=True,
        models=("vision_encoder_name", "text_encoder_name"),
    ),
    Kind(
        "pi0",
        vouched=True,
        language=True,
        modes=_PICTURES_AS_THEY_ARE,
        chunk=_chunk_size,
        draws="noise",
        noise=_padded_chunk,
        unfed="masks",
    ),
    Kind(
        "pi05",
        vouched=True,
        language=True,
        modes={"VISUAL": "IDENTITY", "STATE": "QUANTILES", "ACTION": "QUANTILES"},
        chunk=_chunk_size,
        draws="noise",
        noise=_padded_chunk,
        unfed="masks",
    ),
    Kind(
        "smolvla",
        vouched=True,
        language=True,
        modes=_PICTURES_AS_THEY_ARE,
        chunk=_chunk_size,
        draws="noise",
        noise=_padded_chunk,
        unfed="drops",
        models=("vlm_model_name",),
        fast=True,
    ),
    Kind(
        "tdmpc",
        vouched=True,
        modes={"VISUAL": "IDENTITY", "STATE": "IDENTITY", "ENV": "IDENTITY", "ACTION": "MIN_MAX"},
        chunk=_n_action_steps,
        step_first=True,
    ),
    Kind(
        "vqbet",
        vouched=True,
        modes={"VISUAL": "IDENTITY", "STATE": "MIN_MAX", "ACTION": "MIN_MAX"},
        chunk=_action_chunk_size,
    ),
    Kind(
        "xvla",
        vouched=True,
        language=True,
        modes={"VISUAL": "IDENTITY", "STATE": "IDENTITY", "ACTION": "IDENTITY"},
        chunk=_chunk_size,
        unfed="masks",
        models=("tokenizer_name",),
    ),
    Kind("gaussian_actor", runs_code=True),
    Kind("groot", runs_code=True),
    Kind("pi0_fast", runs_code=True),
    Kind("wall_x", runs_code=True),
)
_KINDS = {row.name: row for row in _ROWS}
VOUCHED = tuple(row.name for row in _ROWS if row.vouched)


def kind_of(policy_type: str) -> Kind:
    """What is known about a policy type, or next to nothing."""
    return _KINDS.get(policy_type) or Kind(policy_type)
