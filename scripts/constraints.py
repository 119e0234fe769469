"""Write constraints.txt: the versions that are installed here of all that the project asks for.

    python3 -m uv run --all-extras --all-groups python scripts/constraints.py

Run it where all tests have passed. What is installed beside that is nobody's need and stays out;
where an extra is not installed, no line goes: what that extra needs in its turn is not known here.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "constraints.txt"


def asked_for() -> list[Requirement]:
    """All that pyproject.toml names: dependencies, extras and groups."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = content["project"]
    lists = [
        project["dependencies"],
        *project["optional-dependencies"].values(),
        *content["dependency-groups"].values(),
    ]
    return [Requirement(text) for texts in lists for text in texts]


def needed(requirements: list[Requirement]) -> Iterator[tuple[str, str | None]]:
    """Name and installed version (None where it is missing) of these and all that they need."""
    seen: set[tuple[str, str]] = set()
    left = [(requirement, extra) for requirement in requirements for extra in _extras(requirement)]
    while left:
        requirement, extra = left.pop()
        name = canonicalize_name(requirement.name)
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            found = distribution(name)
        except PackageNotFoundError:
            yield name, None
            continue
        yield name, Version(found.version).public  # what follows a plus is one machine's build
        for text in found.requires or ():
            inner = Requirement(text)
            if inner.marker is None or inner.marker.evaluate({"extra": extra}):
                left += [(inner, one) for one in _extras(inner)]


def _extras(requirement: Requirement) -> tuple[str, ...]:
    return ("", *sorted(requirement.extras))


def held() -> dict[str, str]:
    """Name → version, as constraints.txt has them."""
    lines = FILE.read_text(encoding="utf-8").splitlines()
    return dict(re.split("==", line, maxsplit=1) for line in lines if "==" in line)


def main() -> int:
    """Write the file and say what changed."""
    before = held()
    found = dict(needed(asked_for()))
    missing = {name for name, version in found.items() if version is None}
    if missing - before.keys():
        names = ", ".join(sorted(missing - before.keys()))
        print(f"{names} not installed: install all extras and groups", file=sys.stderr)
        return 1
    versions = {name: version for name, version in found.items() if version is not None}
    if missing:
        print(f"{', '.join(sorted(missing))} not installed: no line goes", file=sys.stderr)
        versions = before | versions
    FILE.write_text("".join(f"{n}=={v}\n" for n, v in sorted(versions.items())), encoding="utf-8")
    for name in sorted(before.keys() | versions.keys()):
        if before.get(name) != versions.get(name):
            print(f"{name} {before.get(name, '–')} → {versions.get(name, '–')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
