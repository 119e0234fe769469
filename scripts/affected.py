"""Which tests a change touches: found by reading imports, without running anything.

A test touches a module if it names something of it, or of a module that imports it, and so on. Each
test function counts for itself, with the helpers and fixtures that it uses; a test that names a
changed module is near, one that reaches it through five others is far. Everything that evaluates
reaches nearly all of the package, so what matters is the order: nearest first.
"""

from __future__ import annotations

import ast
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import final

_PLACES = ("src", "tests", "benchmarks", "scripts")
"""Where modules are found; the first part of a path that is no part of a module's name."""


@final
@dataclass(frozen=True)
class Test:
    """A test function and how far it is from the change.

    Attributes:
        node: as pytest names it, for example ``tests/test_metrics.py::test_shape_by_hand``.
        distance: imports between it and what changed; 0 where the test names or is it.
        uses: modules that it names.
    """

    node: str
    distance: int
    uses: int


@final
class Tree:
    """The modules of a project and what they import.

    Args:
        root: of the repository.
        package: whose names are loaded when first used (``_HOME`` in its ``__init__``).
    """

    def __init__(self, root: Path, package: str = "policyscope") -> None:
        self.root, self._package = root, package
        self.files = {
            name: path
            for place in _PLACES
            for path in sorted((root / place).rglob("*.py"))
            if (name := _module_name(path.relative_to(root / place)))
        }
        self._parsed: dict[str, ast.Module] = {}

    def parse(self, module: str) -> ast.Module:
        """The syntax tree of a module."""
        if module not in self._parsed:
            self._parsed[module] = ast.parse(self.files[module].read_text(encoding="utf-8"))
        return self._parsed[module]

    @cached_property
    def homes(self) -> dict[str, str]:
        """Name of the package → module that it is loaded from."""
        if self._package not in self.files:
            return {}
        for node in self.parse(self._package).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_HOME":
                known: dict[str, str] = ast.literal_eval(node.value)
                return {name: f"{self._package}.{home}" for name, home in known.items()}
        return {}

    @cached_property
    def imports(self) -> dict[str, set[str]]:
        """Module → modules that it imports, anywhere in it."""
        return {
            name: {m for known in self.names(self.parse(name)).values() for m in known}
            for name in self.files
        }

    def names(self, tree: ast.AST) -> dict[str, set[str]]:
        """Name bound by an import within `tree` → modules that it may stand for.

        What is imported for type checkers alone doesn't count: it changes nothing that runs.
        """
        found: dict[str, set[str]] = {}
        for node in _running(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    bound = alias.asname or alias.name.split(".")[0]
                    found.setdefault(bound, set()).update(self._known(alias.name))
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    there = inner if inner in self.files else node.module
                    if there == self._package and alias.name in self.homes:
                        there = self.homes[alias.name]
                    found.setdefault(alias.asname or alias.name, set()).update(self._known(there))
        return found

    def _known(self, module: str) -> set[str]:
        return {module} & self.files.keys()

    def distances(self, changed: Iterable[str]) -> dict[str, int]:
        """Module → imports between it and the nearest changed module."""
        importers: dict[str, set[str]] = {}
        for module, imported in self.imports.items():
            for one in imported:
                importers.setdefault(one, set()).add(module)
        distance = {module: 0 for module in changed if module in self.files}
        queue = deque(distance)
        while queue:
            module = queue.popleft()
            for importer in sorted(importers.get(module, ())):
                if importer not in distance:
                    distance[importer] = distance[module] + 1
                    queue.append(importer)
        return distance

    def modules_of(self, file: str) -> set[str]:
        """The modules that a changed file concerns: itself, or those that name a file of data."""
        path = self.root / file
        if file.endswith(".py"):
            return {name for name, known in self.files.items() if known == path}
        inside = self.root / "src" / self._package
        if inside not in path.parents:
            return set()
        ours = {name: known for name, known in self.files.items() if inside in known.parents}
        naming = {n for n, known in ours.items() if path.name in known.read_text(encoding="utf-8")}
        room = inside / path.relative_to(inside).parts[0]
        return naming or {name for name, known in ours.items() if room in known.parents}


@final
@dataclass
class _TestModule:
    """One test module: what each of its functions names."""

    tree: Tree
    name: str
    functions: dict[str, ast.AST] = field(default_factory=dict)
    bound: dict[str, set[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        body = self.tree.parse(self.name).body
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                self.functions[node.name] = node
            elif isinstance(node, ast.Assign):
                for target in node.targets:
                    self.functions[ast.unparse(target)] = node
        top: ast.AST = ast.Module([n for n in body if n not in self.functions.values()], [])
        self.bound = self.tree.names(top)

    def tests(self) -> Iterator[str]:
        for name, node in self.functions.items():
            if name.startswith("test") and isinstance(node, ast.FunctionDef):
                yield name

    def uses(self, name: str, seen: set[str]) -> set[str]:
        """Modules that a function names, by itself or by helpers and fixtures of its module."""
        if name in seen or name not in self.functions:
            return set()
        seen.add(name)
        node = self.functions[name]
        found = {m for known in self.tree.names(node).values() for m in known}
        for word, attribute in _words(node):
            found |= self.bound.get(word, set())
            if attribute in self.tree.homes and word in self.bound:
                found.add(self.tree.homes[attribute])
            found |= self.uses(word, seen)
        return found


def affected(tree: Tree, changed: Iterable[str]) -> list[Test]:
    """Tests that changed files touch, nearest first.

    Args:
        tree: the project.
        changed: paths relative to its root, with ``/``.
    """
    files = list(changed)
    modules = {module for file in files for module in tree.modules_of(file)}
    distance = tree.distances(modules)
    fixtures = _TestModule(tree, "conftest") if "conftest" in tree.files else None
    found = []
    for name, path in tree.files.items():
        if not name.startswith("test_"):
            continue
        module = _TestModule(tree, name)
        file = path.relative_to(tree.root).as_posix()
        for test in module.tests():
            used = module.uses(test, set())
            if fixtures is not None:
                seen: set[str] = set()
                for word, _ in _words(module.functions[test]):
                    if word not in module.functions:
                        used |= fixtures.uses(word, seen)
            near = [distance[m] for m in used if m in distance]
            if name in modules:
                near.append(0)
            if near:
                found.append(Test(f"{file}::{test}", min(near), len(used)))
    return sorted(found, key=lambda t: (t.distance, t.uses))


def _module_name(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def _running(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under ``if TYPE_CHECKING``."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        yield node
        yield from _running(node)


def _words(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Names in a piece of code, each with the attribute that is read of it, and parameters."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            yield node.value.id, node.attr
        elif isinstance(node, ast.Name):
            yield node.id, ""
        elif isinstance(node, ast.arg):
            yield node.arg, ""
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from _strings(node.value)


def _strings(text: str) -> Iterator[tuple[str, str]]:
    """A fixture may be named by a text (``usefixtures``, ``getfixturevalue``)."""
    if text.isidentifier():
        yield text, ""
