"""The mutations of a source file: each is one small defect.

A mutation replaces one segment of the text, so the rest of the file, its line numbers included, stays as it is. Texts
(docstrings, messages, log events) and annotations are not mutated: a test of their wording proves nothing. Neither are
numbers outside functions, which are settings: a limit of 1,025 instead of 1,024 does no harm.
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from typing import Final


@dataclasses.dataclass(frozen=True, slots=True)
class Mutation:
    """One replaced segment, in characters of the file's text."""

    line: int
    start: int
    stop: int
    replacement: str
    kind: str
    runs_on_import: bool
    """Whether the segment is outside functions."""

    def apply(self, text: str) -> str:
        """Return the text with this defect."""
        return text[: self.start] + self.replacement + text[self.stop :]

    def describe(self, text: str) -> str:
        """Return the kind, the segment and its replacement, on one line."""
        before = " ".join(text[self.start : self.stop].split())
        return f"{self.kind}: {before or 'nothing'} -> {self.replacement or 'nothing'}"


_COMPARISONS: Final[dict[type[ast.cmpop], str]] = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==",
    ast.Is: "is not", ast.IsNot: "is", ast.In: "not in", ast.NotIn: "in",
}  # fmt: skip
_ARITHMETIC: Final[dict[type[ast.operator], str]] = {
    ast.Add: "-", ast.Sub: "+", ast.Mult: "+", ast.FloorDiv: "*", ast.Mod: "*", ast.LShift: ">>", ast.RShift: "<<",
    ast.BitAnd: "|", ast.BitOr: "&",
}  # fmt: skip
_FLOW: Final[dict[type[ast.stmt], str]] = {ast.Break: "continue", ast.Continue: "break"}


def mutations(text: str) -> Iterator[Mutation]:
    """Yield each mutation of a module's text, in no particular order."""
    yield from _Finder(text).visit(ast.parse(text))


class _Finder:
    """Walks a module's tree and names the places to mutate."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._depth = 0  # of functions around the node
        self._lines = [0]
        for line in text.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))

    def visit(self, node: ast.AST) -> Iterator[Mutation]:
        """Yield the mutations of a node and of all below it."""
        if _is_left_alone(node):
            return
        yield from self._of(node)
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        self._depth += inside
        for name, value in ast.iter_fields(node):
            if name in {"annotation", "returns", "decorator_list", "type_comment"}:
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from self.visit(child)
        self._depth -= inside

    def _of(self, node: ast.AST) -> Iterator[Mutation]:
        yield from self._of_operator(node)
        yield from self._of_statement(node)

    def _of_operator(self, node: ast.AST) -> Iterator[Mutation]:
        match node:
            case ast.Compare(left=left, ops=[operator], comparators=[right]):
                yield self._between(left, right, _COMPARISONS[type(operator)], "comparison")
            case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _ARITHMETIC:
                yield self._between(left, right, _ARITHMETIC[type(operator)], "arithmetic")
            case ast.BoolOp(op=operator, values=[left, right, *_]):
                yield self._between(left, right, "or" if isinstance(operator, ast.And) else "and", "junction")
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                yield self._replace(node, self._source(operand), "negation")
            case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test) if not isinstance(test, ast.Compare):
                yield self._replace(test, f"(not ({self._source(test)}))", "condition")

    def _of_statement(self, node: ast.AST) -> Iterator[Mutation]:
        match node:
            case ast.Constant(value=bool() as value):
                yield self._replace(node, str(not value), "constant")
            case ast.Constant(value=int() as value) if self._depth:
                yield self._replace(node, str(value + 1), "constant")
            case ast.Return(value=ast.expr() as value) if not (isinstance(value, ast.Constant) and value.value is None):
                yield self._replace(value, "None", "result")
            case ast.Break() | ast.Continue():
                yield self._replace(node, _FLOW[type(node)], "flow")
            case ast.Raise() | ast.Expr(value=ast.Call() | ast.Await()) | ast.AugAssign() | ast.Delete():
                yield self._replace(node, "pass", "statement")
            case ast.Assign(targets=[ast.Attribute()]):
                yield self._replace(node, "pass", "statement")

    def _source(self, node: ast.expr) -> str:
        return self._text[self._start(node) : self._stop(node)]

    def _between(self, left: ast.expr, right: ast.expr, operator: str, kind: str) -> Mutation:
        """Replace the operator, and keep brackets and comments around it out of it."""
        gap = self._text[self._stop(left) : self._start(right)]
        opening, closing = len(gap) - len(gap.lstrip(") \n")), len(gap.rstrip("( \n"))
        start = self._stop(left) + opening
        return Mutation(left.lineno, start, self._stop(left) + closing, operator, kind, not self._depth)

    def _replace(self, node: ast.expr | ast.stmt, replacement: str, kind: str) -> Mutation:
        return Mutation(node.lineno, self._start(node), self._stop(node), replacement, kind, not self._depth)

    def _start(self, node: ast.expr | ast.stmt) -> int:
        return self._offset(node.lineno, node.col_offset)

    def _stop(self, node: ast.expr | ast.stmt) -> int:
        if node.end_lineno is None or node.end_col_offset is None:
            raise ValueError("the tree was not made by ast.parse")
        return self._offset(node.end_lineno, node.end_col_offset)

    def _offset(self, line: int, column: int) -> int:
        """Return the place in the text; the columns of a tree are bytes of UTF-8."""
        begin = self._lines[line - 1]
        end = self._lines[line]
        return begin + len(self._text[begin:end].encode()[:column].decode())


def _is_left_alone(node: ast.AST) -> bool:
    """Return whether a node has no behaviour that a test could see: types, logging, code that never runs."""
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="log" | "_log"))):
            return True
        case ast.Expr(value=ast.Call() as call):
            return _is_left_alone(call)
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.FunctionDef(name="__repr__" | "__hash__"):
            return True
        case ast.ClassDef(bases=[*_, ast.Name(id="Protocol")]):
            return True
    return False
