"""The documentation's pages that are made while it is built (a hook of MkDocs, see mkdocs.yml).

README.md, CONTRIBUTING.md and others stay where people look for them and become pages with their
links mended; each room of the house becomes a page from its docstrings, a new room or module by
itself. Nothing is imported: griffe reads the source.
"""

from __future__ import annotations

import ast
import posixpath
import re
import tomllib
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "policyscope"
DOCS = ROOT / "docs"
PAGES = {
    "README.md": "index.md",
    "README.zh.md": "index.zh.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
}
"""File of the repository → page of the documentation."""

_FETCHED = re.compile(
    r"""<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=["']?(?:https?:)?//[^>]*>"""
)
_LINK = re.compile(r"\[([^]]*)\]\((?!https?:|#)([^)\s#]+)(#[^)\s]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill in the parts of the menu that follow from what there is."""
    made = {
        "Guide": [*sorted(p.name for p in DOCS.glob("*.md")), "benchmarks.md", "changelog.md"],
        "Decisions": sorted(f"decisions/{p.name}" for p in (DOCS / "decisions").glob("*.md")),
        "API": ["api/index.md", *(f"api/{name}.md" for name in rooms())],
    }
    for title, pages in made.items():
        _section(config.nav, title).extend(pages)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that have no file in ``docs/``."""
    made = {
        page: _mended((ROOT / source).read_text(encoding="utf-8"), source, page)
        for source, page in PAGES.items()
    }
    made["api/index.md"] = _front()
    made |= {f"api/{name}.md": _room(name) for name in rooms()}
    for name, content in made.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Mend the links of what lies in ``docs/``, too: they are right in the repository."""
    if page.file.abs_src_path is None:  # made here, and mended already
        return markdown
    uri = page.file.src_uri
    return _mended(markdown, f"docs/{uri}", uri)


def on_post_page(output: str, page: Page, **_: Any) -> str:
    """Refuse a page that would ask the network for anything: it must open from disk."""
    fetched = _FETCHED.search(output)
    if fetched is not None:
        raise PluginError(
            f"{page.file.src_uri}: expected a page that fetches nothing; found {fetched[0]}"
        )
    return output


def rooms() -> list[str]:
    """The rooms in the order in which data flows: each imports only those before it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers: list[str] = project["tool"]["importlinter"]["contracts"][0]["layers"]
    return layers[::-1]


def _section(nav: Any, title: str) -> list[Any]:
    """The list under a title of the menu."""
    found = [entry[title] for entry in nav if isinstance(entry, dict) and title in entry]
    if found:
        return found[0]  # type: ignore[no-any-return]
    inner = [value for entry in nav if isinstance(entry, dict) for value in entry.values()]
    return _section([e for value in inner if isinstance(value, list) for e in value], title)


def _mended(text: str, source: str, page: str) -> str:
    """A file's text with links between files turned into links between pages.

    Args:
        text: of the file.
        source: where the file lies in the repository.
        page: which page it becomes.
    """

    def link(match: re.Match[str]) -> str:
        words, target, anchor = match[1], match[2], match[3] or ""
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if (ROOT / path).is_dir() and path.startswith("docs/"):
            path = min(p.relative_to(ROOT).as_posix() for p in (ROOT / path).glob("*.md"))
        there = PAGES.get(path)
        if there is None and path.startswith("docs/"):
            there = path.removeprefix("docs/")
        if there is None:
            return f"`{path}`" if words.strip("`").rstrip("/") == path else f"{words} (`{path}`)"
        return f"[{words}]({posixpath.relpath(there, posixpath.dirname(page) or '.')}{anchor})"

    return _LINK.sub(link, text)


def _modules(room: str) -> list[str]:
    """Dotted names of a room's modules, its packages among them."""
    if (PACKAGE / f"{room}.py").exists():
        return [f"policyscope.{room}"]
    files = (p.relative_to(PACKAGE.parent) for p in (PACKAGE / room).rglob("*.py"))
    names = {".".join(p.with_suffix("").parts).removesuffix(".__init__") for p in files}
    return sorted(n for n in names if not n.rpartition(".")[2].startswith("_"))


def _room(name: str) -> str:
    first, *others = _modules(name)
    parts = [f"# {name}\n", _directive(first, show_root_heading=False)]
    for module in others:
        short = module.removeprefix(f"policyscope.{name}.")
        parts.append(_directive(module, heading_level=2, heading=short, toc_label=short))
    return "\n".join(parts)


def _directive(module: str, **options: bool | int | str) -> str:
    package = (PACKAGE.parent / module.replace(".", "/")).is_dir()
    if package:
        options["members"] = False
    lines = [f"::: {module}", "    options:"]
    lines += [f"      {key}: {str(value).lower()}" for key, value in options.items()]
    return "\n".join(lines) + "\n"


def _front() -> str:
    """The names of ``import policyscope``, and the rooms."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    homes = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_HOME"
    )
    lines = [
        "# API",
        "",
        (ast.get_docstring(tree) or "").split("\n", 2)[2],
        "",
        "| name | where |",
        "|---|---|",
        *(
            f"| [`{name}`][policyscope.{home}.{name}] | `policyscope.{home}` |"
            for name, home in homes.items()
        ),
        "",
        "## Rooms",
        "",
        "Each imports only those before it. These pages show what a room offers to the others.",
        "",
        *(f"1. [{name}]({name}.md): {_first_line(name)}" for name in rooms()),
    ]
    return "\n".join(lines) + "\n"


def _first_line(room: str) -> str:
    file = PACKAGE / f"{room}.py"
    file = file if file.exists() else PACKAGE / room / "__init__.py"
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())
