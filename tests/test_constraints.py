"""constraints.txt holds a version that fits for everything that pyproject.toml names."""

from __future__ import annotations

import tomllib
from pathlib import Path

import constraints
import pytest
import yaml
from packaging.requirements import Requirement
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


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lines of an extra that is not installed, of what it needs, and of what nobody needs."""
    file = tmp_path / "constraints.txt"
    file.write_text("absent==1.0\nits-need==2.0\nnumpy==0.1\n")
    monkeypatch.setattr(constraints, "FILE", file)
    return file


def asks(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(constraints, "asked_for", lambda: [Requirement(name) for name in names])


def lines(file: Path) -> dict[str, str]:
    return dict(line.split("==") for line in file.read_text().splitlines())


def test_lines_of_what_is_not_installed_stay(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asks(monkeypatch, "numpy", "absent[fast]")
    assert constraints.main() == 0
    held = lines(file)
    assert (held["absent"], held["its-need"]) == ("1.0", "2.0")
    assert held["numpy"] != "0.1"
    assert "absent not installed: no line goes" in capsys.readouterr().err


def test_lines_that_nobody_needs_go(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asks(monkeypatch, "numpy")
    assert constraints.main() == 0
    assert list(lines(file)) == ["numpy"]


def test_a_new_extra_has_to_be_installed(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asks(monkeypatch, "numpy", "newcomer")
    before = file.read_text()
    assert constraints.main() == 1
    assert file.read_text() == before
    assert "newcomer not installed: install" in capsys.readouterr().err
