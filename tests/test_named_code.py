"""Every place where a name becomes an import, a path or code stands in docs/security.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "policyscope"
_TABLE = re.compile(r"^\| `([\w/.]+)`, `([\w.]+)` \| `([\w.]+)` \|.*\| `(tests/[\w/]+\.py)::(\w+)`")

_CALLS = """
import_module __import__ exec eval compile execfile run_path run_module reload find_spec
spec_from_file_location module_from_spec exec_module entry_points from_pretrained from_config
get_policy_class make_policy make_policy_config get_choice_class make_pre_post_processors
make_env make_env_config make_vec gym.make registry.make torch.load torch.hub.load joblib.load
dill.load cloudpickle.load pickle.load pickle.loads marshal.loads shelve.open yaml.load
yaml.unsafe_load numpy.load np.load load_dataset snapshot_download hf_hub_download load_file
cached_download urlopen urlretrieve LeRobotDataset LeRobotDatasetMetadata LeRobotDataset.create
AutoModel AutoTokenizer AutoProcessor trust_remote_code CDLL cdll.LoadLibrary load_library
system popen Popen check_call check_output subprocess.run unpack_archive extractall symlink
symlink_to hardlink_to register_third_party_plugins
"""
"""Calls that turn a name into an import, a download, a library or a process; with a dot, only
when they are called so."""

_BUILTIN = ("exec", "eval", "compile", "__import__")


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return "()"


def _named(call: ast.Call) -> str | None:
    """The name under which a call has to stand in the table, or None if it is harmless."""
    dotted = _dotted(call.func)
    last = dotted.rpartition(".")[2]
    if last in _BUILTIN and dotted != last:
        return None  # re.compile, torch.compile, policy.eval()
    for name in _CALLS.split():
        if dotted == name or dotted.endswith(f".{name}"):
            return last
    if last in ("getattr", "setattr", "delattr", "attrgetter", "methodcaller"):
        at = 0 if last in ("attrgetter", "methodcaller") else 1
        if len(call.args) > at and not isinstance(call.args[at], ast.Constant):
            return last
    if any(keyword.arg == "trust_remote_code" for keyword in call.keywords):
        return "trust_remote_code"
    return None


def found_in(tree: ast.AST, module: str) -> Iterator[tuple[str, str, str]]:
    """(module, function, call) of every place in a module that must stand in the table."""

    def walk(node: ast.AST, inside: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
        named = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        here = (*inside, node.name) if named else inside  # type: ignore[attr-defined]
        where = ".".join(here) or "module"
        if isinstance(node, ast.Call) and (name := _named(node)):
            yield module, where, name
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [getattr(node, "module", None) or "", *(alias.name for alias in node.names)]
            for name in ("pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"):
                if name in modules:
                    yield module, where, name
        for child in ast.iter_child_nodes(node):
            yield from walk(child, here)

    yield from walk(tree, ())


_NUMBERS = ("metrics", "views")
"""Rooms that read no file of a stranger: their getattr goes over fields of our own classes."""


def _in_source() -> set[tuple[str, str, str]]:
    return {
        place
        for file in sorted(SOURCE.rglob("*.py"))
        for place in found_in(
            ast.parse(file.read_text(encoding="utf-8")), str(file.relative_to(SOURCE))
        )
        if not (place[2] == "getattr" and file.relative_to(SOURCE).parts[0] in _NUMBERS)
    }


def _rows() -> dict[tuple[str, str, str], tuple[str, str]]:
    lines = (ROOT / "docs" / "security.md").read_text(encoding="utf-8").splitlines()
    rows = [match.groups() for match in map(_TABLE.match, lines) if match]
    return {(module, where, call): (file, test) for module, where, call, file, test in rows}


def test_every_place_has_its_row() -> None:
    missing = sorted(_in_source() - _rows().keys())
    assert not missing, "\n".join(
        f"| `{module}`, `{where}` | `{call}` | who chooses the name | `tests/…::test_…` |"
        for module, where, call in missing
    )


def test_no_row_outlives_its_place() -> None:
    assert sorted(_rows().keys() - _in_source()) == []


def test_every_row_names_a_test() -> None:
    assert len(_rows()) >= 10
    for file, test in set(_rows().values()):
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        tests = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert test in tests, f"{file} has no {test}"


@pytest.mark.parametrize(
    ("code", "call"),
    [
        ("importlib.import_module(name)", "import_module"),
        ("from importlib import import_module as load\nimport_module(x)", "import_module"),
        ("__import__(x)", "__import__"),
        ("for e in entry_points(group='x'): e.load()", "entry_points"),
        ("torch.load(path)", "load"),
        ("import pickle", "pickle"),
        ("from pickle import loads", "pickle"),
        ("gym.make(name)", "make"),
        ("lerobot.envs.factory.make_env(config)", "make_env"),
        ("AutoModel.from_pretrained(name)", "from_pretrained"),
        ("make(x, trust_remote_code=True)", "trust_remote_code"),
        ("getattr(module, name)", "getattr"),
        ("getattr(module, config['x'])()", "getattr"),
        ("runpy.run_path(x)", "run_path"),
        ("exec(text)", "exec"),
        ("subprocess.run(x)", "run"),
    ],
)
def test_the_search_finds(code: str, call: str) -> None:
    assert call in {name for _, _, name in found_in(ast.parse(code), "m.py")}


@pytest.mark.parametrize("code", ["getattr(x, 'name')", "json.load(file)", "import json", "run(x)"])
def test_the_search_passes_over(code: str) -> None:
    assert not list(found_in(ast.parse(code), "m.py"))
