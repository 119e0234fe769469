"""Conditions of a gate: a small language over the numbers of a comparison, parsed, never run.

    executed.mae > base + 0.5
    executed.nmae.ci_high > 1.1 * base
    ratio.chunk.mae.ci_low > 1
    success.ci_low < 60%

A condition compares two sides with ``<``, ``<=``, ``>`` or ``>=``. A side is made of numbers (a
percent sign divides by 100), names, ``+ - * /`` and parentheses. A name is a number of the run
that is compared; ``base.NAME`` is the same number of the base, and bare ``base`` the base's number
for the one name that the condition has. Names that end in ``.ci_low`` or ``.ci_high`` are interval
ends. What is undefined (an interval of three episodes) leaves the condition open.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import final

from policyscope.errors import UsageError

_COMPARE: dict[type[ast.cmpop], Callable[[float, float], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_LONGEST = 300  # characters: a parser that recurses is given no more
_ALLOWED = re.compile(r"[\w.\s+\-*/()<>=%]+")
_PERCENT = re.compile(r"(\d(?:[\d.]*))\s*%")
_ENDS = ("ci_low", "ci_high")
_BASE = "base"


@final
@dataclass(frozen=True)
class Condition:
    """One parsed condition.

    Attributes:
        text: as it was written.
        names: of numbers that it needs, in the order they appear.
    """

    text: str
    names: tuple[str, ...]
    _tree: ast.Compare

    def holds(self, numbers: Mapping[str, float | None]) -> bool | None:
        """Whether the condition is true; None where a number that it needs is undefined.

        Args:
            numbers: name → number, of all names that exist.

        Raises:
            UsageError: it names a number that does not exist.
        """
        for name in self.names:
            if name not in numbers:
                raise UsageError(
                    f"--fail_if {self.text!r}",
                    expected=f"one of {', '.join(sorted(numbers)[:40])}",
                    found=name,
                    fix="see docs/comparing.md for the names",
                )
        left, right = (
            _value(side, numbers) for side in (self._tree.left, self._tree.comparators[0])
        )
        if left is None or right is None:
            return None
        return _COMPARE[type(self._tree.ops[0])](left, right)


def parse_condition(text: str) -> Condition:
    """Read a condition.

    Raises:
        UsageError: it is none.
    """
    shown = _PERCENT.sub(r"(\1 / 100)", text.strip())
    if len(text) > _LONGEST or not _ALLOWED.fullmatch(text):
        raise _refused(text, "characters of another language" if len(text) <= _LONGEST else "more")
    try:
        tree = ast.parse(shown, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _refused(text, "something that does not parse") from None
    if not isinstance(tree, ast.Compare) or len(tree.ops) != 1 or type(tree.ops[0]) not in _COMPARE:
        raise _refused(text, "no single comparison")
    names = _names(text, tree)
    own = sorted({_measure(name) for name in names if name.split(".")[0] != _BASE})
    if any(_measure(name) == _BASE for name in names):
        if len(own) != 1:
            raise _refused(text, f"base beside {len(own)} other names")
        tree = _Spelled(own[0]).visit(tree)
        names = _names(text, tree)
    return Condition(text, names, tree)


class _Spelled(ast.NodeTransformer):
    """Writes bare ``base`` out: the base's number of the same name."""

    def __init__(self, measure: str) -> None:
        self._measure = measure

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """Bare ``base``."""
        return _named(f"{_BASE}.{self._measure}") if node.id == _BASE else node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """``base.ci_low`` and ``base.ci_high``."""
        parts = _dotted(node).split(".")
        if parts[0] == _BASE and len(parts) == 2 and parts[1] in _ENDS:
            return _named(f"{_BASE}.{self._measure}.{parts[1]}")
        return node


def _named(dotted: str) -> ast.expr:
    return ast.parse(dotted, mode="eval").body


def _measure(name: str) -> str:
    head, _, end = name.rpartition(".")
    return head if end in _ENDS else name


def _names(text: str, tree: ast.AST) -> tuple[str, ...]:
    """Every dotted name of an expression; raises at anything that the language lacks."""
    found: dict[str, None] = {}

    def walk(node: ast.AST) -> None:
        if isinstance(node, ast.Name | ast.Attribute):
            found[_dotted(node)] = None
        elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
            return
        elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            walk(node.left)
            walk(node.right)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            walk(node.operand)
        elif isinstance(node, ast.Compare):
            walk(node.left)
            walk(node.comparators[0])
        else:
            raise _refused(text, type(node).__name__.lower())

    walk(tree)
    return tuple(found)


def _dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return "?"


def _value(node: ast.AST, numbers: Mapping[str, float | None]) -> float | None:
    if isinstance(node, ast.Constant):
        return float(node.value)  # type: ignore[arg-type]  # only numbers passed `_names`
    if isinstance(node, ast.UnaryOp):
        value = _value(node.operand, numbers)
        return None if value is None else (-value if isinstance(node.op, ast.USub) else value)
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left, numbers), _value(node.right, numbers)
        if left is None or right is None or (isinstance(node.op, ast.Div) and right == 0):
            return None
        return _ARITHMETIC[type(node.op)](left, right)
    number = numbers[_dotted(node)]
    return None if number is None or math.isnan(number) else number


def _refused(text: str, found: str) -> UsageError:
    return UsageError(
        f"--fail_if {text[:_LONGEST]!r}",
        expected="a comparison of names and numbers",
        found=found,
        fix="--fail_if 'executed.mae > base + 0.5'",
    )
