"""Which tests a change touches, on a small project whose answer is plain."""

from __future__ import annotations

from pathlib import Path

import pytest
from affected import Tree, affected

_FILES = {
    "src/pkg/__init__.py": '_HOME = {"far": "commands"}\n',
    "src/pkg/core.py": "def add(a, b): ...\n",
    "src/pkg/middle.py": "from pkg.core import add\n",
    "src/pkg/lazy.py": "def f():\n    from pkg import core\n    return core\n",
    "src/pkg/typed.py": (
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pkg.core import add\n"
    ),
    "src/pkg/commands.py": "import pkg.middle\ndef far(): ...\n",
    "src/pkg/views/__init__.py": "",
    "src/pkg/views/page.py": 'TEXT = "page.html"\n',
    "src/pkg/views/page.html": "<p>",
    "src/pkg/views/other.css": "p {}",
    "tests/conftest.py": "from pkg.lazy import f\ndef lazily(): return f()\n",
    "tests/helpers.py": "from pkg import middle\n",
    "tests/test_a.py": (
        "import helpers\nimport pkg as p\nfrom pkg.core import add\nfrom pkg import typed\n"
        "from pkg.views import page\n"
        "def _sum(): return add(1, 2)\n"
        "def test_by_helper(): assert _sum()\n"
        "def test_fixture(lazily): assert lazily\n"
        "def test_other_module(): assert helpers\n"
        "def test_public_name(): p.far()\n"
        "def test_types_only(): assert typed\n"
        "def test_page(): assert page\n"
    ),
}


@pytest.fixture
def project(tmp_path: Path) -> Tree:
    for name, text in _FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return Tree(tmp_path, "pkg")


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (
            "src/pkg/core.py",
            {"by_helper": 0, "fixture": 1, "other_module": 2, "public_name": 2},
        ),
        ("src/pkg/middle.py", {"other_module": 1, "public_name": 1}),
        ("src/pkg/lazy.py", {"fixture": 0}),
        ("src/pkg/typed.py", {"types_only": 0}),
        ("src/pkg/views/page.html", {"page": 0}),
        ("src/pkg/views/other.css", {"page": 0}),  # nobody names it: the whole room
        ("tests/helpers.py", {"other_module": 0}),
        (
            "tests/test_a.py",
            dict.fromkeys(
                ["by_helper", "fixture", "other_module", "page", "public_name", "types_only"], 0
            ),
        ),
        ("README.md", {}),
    ],
)
def test_what_a_change_touches(project: Tree, changed: str, expected: dict[str, int]) -> None:
    found = affected(project, [changed])
    names = {t.node.removeprefix("tests/test_a.py::test_"): t.distance for t in found}
    assert names == expected
    assert [t.distance for t in found] == sorted(t.distance for t in found)
