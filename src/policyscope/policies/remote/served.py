"""What `policyscope serve` says of a policy, in the first message of openpi's protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from policyscope.policies.kinds import Draws
from policyscope.policies.remote.link import Line

NAME = "policyscope"
"""Key of what this package adds to messages: of itself, and which frame an observation is."""

Size = Annotated[int, Field(ge=1, le=10_000)]
Text = Annotated[str, Field(max_length=200)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


@final
class ServedInput(_Strict):
    """An input of the policy: a picture of shape (C, H, W), or numbers."""

    kind: Literal["picture", "numbers"]
    shape: Annotated[list[Annotated[int, Field(ge=1, le=65536)]], Field(max_length=4)]


@final
class Served(_Strict):
    """What the server's policy is.

    Attributes:
        version: of this message.
        type: of the policy.
        sha256: of its weights, where there are any.
        chunk_size: steps of a chunk.
        n_action_steps: steps of it that a robot runs.
        inputs: key → what it is.
        lags: observation steps that it reads, relative to the present.
        draws: as in `policyscope.policies.base.PolicySpec`.
        seed: of its noise.
    """

    version: Literal[1] = 1
    type: Annotated[str, Field(pattern=r"^[\w.:-]{1,100}$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    n_parameters: Annotated[int, Field(ge=0, le=2**50)] = 0
    chunk_size: Size
    n_action_steps: Size
    inputs: Annotated[dict[Text, ServedInput], Field(max_length=100)]
    lags: Annotated[list[Annotated[int, Field(ge=-1000, le=0)]], Field(min_length=1, max_length=64)]
    draws: Draws
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)]
    action_names: Annotated[list[Text], Field(max_length=4096)] = []

    @property
    def steps(self) -> tuple[int, ...]:
        """`lags` as a spec has them."""
        return tuple(self.lags)

    @model_validator(mode="after")
    def _whole(self) -> Served:
        if self.n_action_steps > self.chunk_size or self.lags != sorted(set(self.lags)):
            raise ValueError("n_action_steps within the chunk, and lags that rise")
        return self


def read_served(metadata: Mapping[Any, Any], line: Line) -> Served | None:
    """What a server of this package says; None of any other.

    Raises:
        RemoteError: it says nonsense.
    """
    said = metadata.get(NAME)
    if said is None:
        return None
    try:
        return Served.model_validate(said)
    except ValidationError as error:
        first = error.errors()[0]
        raise line.fault(
            expected="what policyscope serve says of its policy",
            found=f"{'.'.join(map(str, first['loc']))}: {first['msg']}",
            fix="the same version of policyscope on both sides",
        ) from error
