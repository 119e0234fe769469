"""constraints.txt holds a version that fits for everything that pyproject.toml names."""

from __future__ import annotations

import constraints
from packaging.utils import canonicalize_name


def test_every_requirement_is_met() -> None:
    held = constraints.held()
    wanted = constraints.asked_for()
    assert len(wanted) > 20
    found = {str(one): held.get(canonicalize_name(one.name), "0") for one in wanted}
    unmet = {
        str(one): found[str(one)]
        for one in wanted
        if not one.specifier.contains(found[str(one)], prereleases=True)
    }
    assert not unmet
