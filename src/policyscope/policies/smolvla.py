"""SmolVLA's sampling without the work that lerobot's own repeats; the same actions to float
tolerance.

At each of its ten denoising steps lerobot (0.6) projects the same prefix to keys and values again,
grows a cache by the chunk and crops it (lerobot#4633), and makes masks, positions and time
embeddings anew; and a picture that feeds several cameras goes through the vision tower once for
each. Here all that is done once a chunk, and one step has fixed shapes: it compiles alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    import torch

_TRIAL_STEPS = 2
_TOLERANCE, _BFLOAT16 = 1e-4, 2e-2  # of the largest value; lerobot's own distance from float32


@final
@dataclass(frozen=True)
class _Fixed:
    """What does not change over the steps of a chunk (B rows, L of prefix, S of chunk).

    Attributes:
        keys: one a layer, [B, KV heads, L, D]; with S places more where the chunk looks at itself.
        values: as `keys`.
        turns: cosine and signed sine of the rotary positions, [B or 1, S, 1, D], within the chunk
            and behind the prefix.
        masks: [B, 1, groups · S, L] and [B, 1, groups · S, L + S], 0 where it may look, else -inf.
        times: [steps, hidden] embedded flow times.
    """

    keys: Sequence[torch.Tensor]
    values: Sequence[torch.Tensor]
    turns: tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
    masks: tuple[torch.Tensor, torch.Tensor]
    times: torch.Tensor


@final
class Sampler:
    """Stands in for ``sample_actions`` of a SmolVLA; see `speed_up`."""

    def __init__(self, model: Any) -> None:
        self._model, self._whole = model, model.vlm_with_expert
        self._theirs = model.sample_actions
        self._plain = (self._whole.embed_image, self._fixed, self._velocity)
        self._parts: tuple[Any, ...] = self._plain
        self._seen: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._empty: list[torch.Tensor] = []
        self._blanks: dict[tuple[Any, ...], torch.Tensor] = {}
        self._rows: torch.Tensor | None = None
        self._layers = list(self._whole.lm_expert.layers)
        every = self._whole.self_attn_every_n_layers
        self._looks_at_itself = [
            "cross" not in self._whole.attention_mode or (every > 0 and i % every == 0)
            for i in range(len(self._layers))
        ]
        self._groups = self._whole.num_attention_heads // self._whole.num_key_value_heads

    def compile(self) -> None:
        """Compile the vision tower, what is fixed over a chunk, and one denoising step."""
        import torch

        self._parts = tuple(torch.compile(part) for part in self._plain)

    @contextlib.contextmanager
    def plain(self) -> Iterator[None]:
        """Without compilation, for a while."""
        road, self._parts = self._parts, self._plain
        try:
            yield
        finally:
            self._parts = road

    @contextlib.contextmanager
    def sharing(self, rows: torch.Tensor) -> Iterator[None]:
        """Within, noise may have more rows than there are observations.

        Samples of one frame differ by their noise alone: pictures, words, state and what the VLM
        makes of them are the same, and are computed once.

        Args:
            rows: [B] the observation that each row of the noise belongs to.
        """
        self._rows = rows
        try:
            yield
        finally:
            self._rows = None

    def embed_image(self, image: torch.Tensor) -> torch.Tensor:
        """What the vision tower says of a picture, once where it comes several times in a call."""
        for known, embedded in self._seen:
            if known is image:
                return embedded
        empty = any(image is other for other in self._empty) and bool((image == -1).all())
        embedded = self._blank(image) if empty else self._parts[0](image)
        self._seen.append((image, embedded))
        return embedded

    def _blank(self, image: torch.Tensor) -> torch.Tensor:
        """The same of a camera that the policy has and the data lacks: a constant of the weights.

        lerobot shows the tower a black picture for each row, and hides what it says.
        """
        import torch

        half = torch.is_autocast_enabled(image.device.type)
        key = (image.shape[1:], image.dtype, image.device, half)
        if key not in self._blanks:
            self._blanks[key] = self._plain[0](image[:1])
        return self._blanks[key].expand(len(image), -1, -1)

    def __call__(
        self,
        images: Sequence[torch.Tensor],
        img_masks: Sequence[torch.Tensor],
        lang_tokens: torch.Tensor,
        lang_masks: torch.Tensor,
        state: torch.Tensor,
        noise: torch.Tensor | None = None,
        **guidance: Any,
    ) -> torch.Tensor:
        """Chunks of normalized actions, [B, S, action dims]; arguments as lerobot's."""
        model = self._model
        try:
            if guidance or model.rtc_processor is not None:
                return self._theirs(
                    images, img_masks, lang_tokens, lang_masks, state, noise=noise, **guidance
                )
            if noise is None:
                shape = (len(state), model.config.chunk_size, model.config.max_action_dim)
                noise = model.sample_noise(shape, state.device)
            self._empty = [i for i, m in zip(images, img_masks, strict=True) if not bool(m.any())]
            embedded, real, blocks = model.embed_prefix(
                images, img_masks, lang_tokens, lang_masks, state=state
            )
        finally:
            self._seen, self._empty = [], []
        _, fix, flow = self._parts
        fixed = fix(embedded, real, blocks, noise, self._rows)
        # Flow time runs from 1 (noise) to 0 (actions). The network was trained to say noise minus
        # actions wherever it stands in between, so each step goes a part of that way back.
        x, dt = noise, -1.0 / model.config.num_steps
        for time in fixed.times:
            x = x + dt * flow(x, time, fixed)
        return x

    def _fixed(
        self,
        embedded: torch.Tensor,
        real: torch.Tensor,
        blocks: torch.Tensor,
        noise: torch.Tensor,
        rows: torch.Tensor | None,
    ) -> _Fixed:
        import torch
        from lerobot.policies.common.vla_utils import create_sinusoidal_pos_embedding

        keys, values = self._prefix(embedded, real, blocks, noise.shape[1])
        if rows is not None:
            keys, values = [k[rows] for k in keys], [v[rows] for v in values]
            real = real[rows]
        device, (b, s, _) = noise.device, noise.shape
        # Padded words are never looked at; within the chunk, a step sees itself and those before.
        prefix = real[:, None, :].expand(b, s, -1)
        earlier = torch.ones(s, s, dtype=torch.bool, device=device).tril().expand(b, -1, -1)
        steps = torch.arange(s, device=device)[None]
        config = self._model.config
        dt = -1.0 / config.num_steps  # in lerobot's own order: fast waves show the last digit
        times = torch.tensor([1.0 + i * dt for i in range(config.num_steps)], device=device)
        return _Fixed(
            keys,
            values,
            # A layer that looks at the chunk counts on from the prefix's words (padding is none);
            # one that looks at the prefix alone counts within the chunk, as lerobot does.
            (self._turn(steps), self._turn(real.sum(dim=1, keepdim=True) + steps)),
            (
                self._mask(prefix, keys[0].dtype),
                self._mask(torch.cat([prefix, earlier], dim=2), keys[0].dtype),
            ),
            create_sinusoidal_pos_embedding(
                times, self._whole.expert_hidden_size, config.min_period, config.max_period, device
            ),
        )

    def _prefix(
        self, embedded: torch.Tensor, real: torch.Tensor, blocks: torch.Tensor, s: int
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Keys and values of the prefix, as each layer of the action expert reads them."""
        import torch
        from lerobot.policies.common.vla_utils import make_att_2d_masks

        _, cache = self._whole.forward(
            attention_mask=make_att_2d_masks(real, blocks),
            position_ids=torch.cumsum(real, dim=1) - 1,
            past_key_values=None,
            inputs_embeds=[embedded, None],
            use_cache=True,
        )
        device = embedded.device
        dtype = torch.float32  # as lerobot, which compares queries and keys in no other
        if torch.is_autocast_enabled(device.type):
            dtype = torch.get_autocast_dtype(device.type)

        def read(known: torch.Tensor, project: Any, itself: bool) -> torch.Tensor:
            *heads, n, d = known.shape
            if itself:
                # The last s places are the chunk's own. Every step writes all of them before it
                # reads, so they need no first value, and no step leaves anything to the next.
                held = torch.empty((*heads, n + s, d), dtype=dtype, device=device)
                held[:, :, :n] = known
                return held
            # The expert projects the VLM's keys once more, as they are: turned by the VLM's
            # positions already. This is what lerobot repeats at each step.
            flat = known.transpose(1, 2).flatten(2).to(project.weight.dtype)
            return project(flat).unflatten(2, (-1, d)).transpose(1, 2).to(dtype).contiguous()

        layers = [
            (layer.self_attn, kept, itself)
            for layer, kept, itself in zip(
                self._layers, cache.layers, self._looks_at_itself, strict=True
            )
        ]
        keys = [read(kept.keys, part.k_proj, itself) for part, kept, itself in layers]
        values = [read(kept.values, part.v_proj, itself) for part, kept, itself in layers]
        return keys, values

    def _turn(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosine and sine of rotary positions, [B or 1, S, 1, D]; see `_turned`.

        lerobot's own function turns the unit vector: nothing here knows its wavelengths.
        """
        import torch
        from lerobot.policies.smolvla.smolvlm_with_expert import apply_rope

        half = self._layers[0].self_attn.head_dim // 2
        unit = torch.cat([torch.ones(half), torch.zeros(half)]).to(positions.device)
        turned = apply_rope(unit.expand(*positions.shape, 1, -1), positions)
        cos, sin = turned.chunk(2, dim=-1)
        return torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)

    def _mask(self, mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """[B, S, n] → [B, 1, groups · S, n], as it is added to the products of queries and keys."""
        import torch

        added = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
        return added.masked_fill_(~mask, -torch.inf).repeat(1, self._groups, 1)[:, None]

    def _velocity(self, x: torch.Tensor, time: torch.Tensor, fixed: _Fixed) -> torch.Tensor:
        """Which way the chunk flows at a time, [B, S, padded action dims]: one denoising step.

        All shapes are fixed, and the only state is in places that it fills itself.
        """
        import torch
        import torch.nn.functional as F  # noqa: N812

        model, s = self._model, x.shape[1]
        hidden = model.action_in_proj(x)
        seen = time.to(hidden.dtype).expand_as(hidden)
        hidden = model.action_time_mlp_in(torch.cat([hidden, seen], dim=2))
        hidden = model.action_time_mlp_out(F.silu(hidden))
        for layer, itself, keys, values in zip(
            self._layers, self._looks_at_itself, fixed.keys, fixed.values, strict=True
        ):
            attention, turn = layer.self_attn, fixed.turns[int(itself)]
            split = (-1, attention.head_dim)
            normed = layer.input_layernorm(hidden).to(attention.q_proj.weight.dtype)
            queries = _turned(attention.q_proj(normed).unflatten(2, split), turn)
            if itself:
                own = _turned(attention.k_proj(normed).unflatten(2, split), turn)
                keys[:, :, -s:] = own.transpose(1, 2)
                values[:, :, -s:] = attention.v_proj(normed).unflatten(2, split).transpose(1, 2)
            # The query heads of a group share their keys: they are rows of one product.
            grouped = queries.transpose(1, 2).unflatten(1, (-1, self._groups)).flatten(2, 3)
            answer = F.scaled_dot_product_attention(
                grouped.to(keys.dtype), keys, values, attn_mask=fixed.masks[int(itself)]
            )
            answer = answer.unflatten(2, (self._groups, s)).flatten(1, 2).transpose(1, 2).flatten(2)
            # In place, as lerobot: a sum has the dtype of the layer's weights.
            residual = attention.o_proj(answer.to(attention.o_proj.weight.dtype)).add_(hidden)
            hidden = layer.mlp(layer.post_attention_layernorm(residual)).add_(residual)
        hidden = self._whole.lm_expert.norm(hidden).to(torch.float32)
        velocity: torch.Tensor = model.action_out_proj(hidden)
        return velocity


def _turned(heads: torch.Tensor, turn: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Rotary positions applied to [B, S, heads, D], in float32.

    (a, b) → (a cos - b sin, b cos + a sin), where a and b are the halves of D.
    """
    import torch

    cos, sin = turn
    heads = heads.float()
    return torch.addcmul(heads * cos, heads.roll(heads.shape[-1] // 2, dims=-1), sin)


def speed_up(policy: Any) -> Sampler | None:
    """Make a SmolVLA sample faster, where that gives its own actions.

    Both roads are tried on random tokens. Where they differ, where lerobot's code is not what is
    known here, or where the checkpoint asks for compilation or real-time chunking, nothing changes.

    Args:
        policy: lerobot's ``SmolVLAPolicy``.

    Returns:
        What it samples by now; None where nothing changed.
    """
    try:
        faster = _tried(policy.model)
    except (AttributeError, TypeError, ValueError, IndexError, RuntimeError):
        return None  # another lerobot than the one that is known here
    if faster is None:
        return None
    policy.model.sample_actions = faster
    policy.model.vlm_with_expert.embed_image = faster.embed_image
    policy.prepare_images = _PreparedOnce(policy)
    return faster


def _tried(model: Any) -> Sampler | None:
    """A sampler that has shown to answer as lerobot's."""
    import torch

    config, whole = model.config, model.vlm_with_expert
    if (
        config.compile_model
        or not config.use_cache
        or model.rtc_processor is not None
        or whole.num_expert_layers != whole.num_vlm_layers
    ):
        return None
    device, draw = next(model.parameters()).device, torch.Generator().manual_seed(0)
    words = torch.randint(0, whole.config.text_config.vocab_size, (2, 6), generator=draw)
    real = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    state = torch.randn(2, config.max_state_dim, generator=draw)
    words, real, state = words.to(device), real.to(device), state.to(device)
    noise = torch.randn(2, config.chunk_size, config.max_action_dim, generator=draw).to(device)
    faster = Sampler(model)
    with torch.inference_mode(), _steps(config, _TRIAL_STEPS):
        theirs = model.sample_actions([], [], words, real, state, noise=noise)
        ours = faster([], [], words, real, state, noise=noise)
    exact = all(p.dtype == torch.float32 for p in model.parameters())
    most = (_TOLERANCE if exact else _BFLOAT16) * theirs.abs().max()
    return faster if ours.shape == theirs.shape and (ours - theirs).abs().max() <= most else None


@contextlib.contextmanager
def _steps(config: Any, n: int) -> Iterator[None]:
    known, config.num_steps = config.num_steps, n
    try:
        yield
    finally:
        config.num_steps = known


@final
class _PreparedOnce:
    """Stands in for ``prepare_images``: what feeds several cameras is prepared once."""

    def __init__(self, policy: Any) -> None:
        self._config, self._theirs = policy.config, policy.prepare_images

    def __call__(self, batch: dict[str, Any]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        config = self._config
        present = [key for key in config.image_features if key in batch]
        first = {key: next(k for k in present if batch[k] is batch[key]) for key in present}
        once = list(dict.fromkeys(first.values()))
        if len(once) == len(present) or any(key.endswith("_padding_mask") for key in batch):
            whole: tuple[list[torch.Tensor], list[torch.Tensor]] = self._theirs(batch)
            return whole
        images, masks = self._theirs({k: v for k, v in batch.items() if first.get(k, k) == k})
        # a camera that was left out here counts as one that is missing there
        lacking = min(len(config.image_features) - len(present), config.empty_cameras)
        at = [once.index(first[key]) for key in present]
        at += range(len(once), len(once) + lacking)
        return [images[i] for i in at], [masks[i] for i in at]
