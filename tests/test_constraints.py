"""constraints.txt holds a version that fits for everything that pyproject.toml names."""

from __future__ import annotations

import tomllib

import constraints
import yaml
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


def test_the_citation_names_the_version() -> None:
    project = tomllib.loads((constraints.ROOT / "pyproject.toml").read_text())["project"]
    cited = yaml.safe_load((constraints.ROOT / "CITATION.cff").read_text())
    assert cited["version"] == project["version"]
    assert cited["license"] == project["license"]
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()
