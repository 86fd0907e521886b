"""Every small fault that `mutants.py` can put into a Python source, as replacements of text.

| kind | from | to |
|---|---|---|
| comparisons | `<`, `==`, `in`, `is` | `<=`, `!=`, `not in`, `is not` |
| arithmetic | `+`, `*`, `//`, `<<` | `-`, `/`, `*`, `>>` |
| logic | `and`, `not x`, `if x` | `or`, `x`, `if not x` |
| constants | `3`, `True`, `"key"` | `4`, `False`, `"key_"` |
| statements | `raise ...`, a call, `continue` | `pass`, `pass`, `break` |
| results | `return x` | `return None` |
| tables | an entry of a dict, list, tuple or set | nothing |
| arguments | `name=value` in a call | nothing |

Tables, defaults of arguments and fields of classes count as everything else. Docstrings,
annotations, sentences in messages, assertions (a zip's `strict=True` among them) and code for type
checkers are left alone.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.In: "not in",
    ast.NotIn: "in",
    ast.Is: "is not",
    ast.IsNot: "is",
}
_ARITHMETIC: dict[type[ast.operator], str] = {
    ast.Add: "-",
    ast.Sub: "+",
    ast.Mult: "/",
    ast.Div: "*",
    ast.FloorDiv: "*",
    ast.Mod: "*",
    ast.LShift: ">>",
    ast.RShift: "<<",
    ast.BitAnd: "|",
    ast.BitOr: "&",
}
# Keys, names and suffixes; text with a space is for people to read.
_NAME = re.compile(r"\S+")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Mutant:
    """One fault.

    Attributes:
        path: the source.
        begin: the first byte that is replaced.
        end: the byte behind the last.
        text: the replacement.
        first: the first line of the statement, from 1.
        last: its last line.
        owner: the lines of the function or class whose tests see the fault, if the statement itself
            runs only when the module is imported; (0, 0) for the whole module.
        at_import: the statement runs only then.
    """

    path: Path
    begin: int
    end: int
    text: str
    first: int
    last: int
    owner: tuple[int, int]
    at_import: bool

    def applied(self) -> bytes:
        """The source with the fault."""
        source = self.path.read_bytes()
        return source[: self.begin] + self.text.encode() + source[self.end :]

    def compiles(self) -> bool:
        """Tell whether the fault leaves valid Python."""
        try:
            compile(self.applied(), str(self.path), "exec", dont_inherit=True)
        except SyntaxError:
            return False
        return True

    def diff(self) -> str:
        """The fault as removed and added lines."""
        old, new = self.path.read_text().splitlines(), self.applied().decode().splitlines()
        lines = difflib.unified_diff(old, new, lineterm="", n=0)
        return "\n".join(line for line in lines if not line.startswith(("---", "+++", "@@")))


def mutants_of(path: Path) -> list[Mutant]:
    """List a source's mutants in the order of the text; some may not compile."""
    found = _Finder(path, path.read_bytes()).found
    return sorted(found, key=lambda m: (m.begin, m.end, m.text))


def bodies_of(path: Path) -> list[tuple[int, int]]:
    """The first and last lines of a source's function bodies: all that does not run at import."""
    return [
        (node.body[0].lineno, node.end_lineno or 0)
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, _FUNCTIONS)
    ]


class _Finder:
    def __init__(self, path: Path, source: bytes) -> None:
        self.path, self.source = path, source
        self.found: list[Mutant] = []
        self.starts = [0]
        for line in source.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.place = (1, 1, (0, 0), True)
        self.body(ast.parse(source).body, (0, 0), True)

    def body(self, statements: list[ast.stmt], owner: tuple[int, int], at_import: bool) -> None:
        for statement in statements:
            self.statement(statement, owner, at_import)

    def statement(self, node: ast.stmt, owner: tuple[int, int], at_import: bool) -> None:
        blocks = [b for b in ast.iter_fields(node) if isinstance(b[1], list)]
        inner = [s for _, block in blocks for s in block if isinstance(s, ast.stmt)]
        last = min([s.lineno for s in inner], default=(node.end_lineno or 0) + 1) - 1
        lines = (node.lineno, node.end_lineno or 0)
        if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            # Defaults, decorators and fields run at import; what they do shows in the body.
            self.place = (node.lineno, max(last, node.lineno), lines, True)
            self.header(node)
            function = isinstance(node, _FUNCTIONS)
            self.body(node.body, lines if at_import else owner, at_import and not function)
            return
        self.place = (node.lineno, max(last, node.lineno), owner, at_import)
        if isinstance(node, (ast.Import, ast.ImportFrom, ast.Assert, ast.Global, ast.Nonlocal)):
            return
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        self.whole(node)
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr) and child is not getattr(node, "annotation", None):
                self.expression(child)
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.stmt):
                self.statement(child, owner, at_import)
            elif isinstance(child, (ast.ExceptHandler, ast.match_case)):
                self.body(child.body, owner, at_import)
            elif isinstance(child, ast.withitem):
                self.expression(child.context_expr)

    def header(self, node: ast.stmt) -> None:
        if isinstance(node, _FUNCTIONS):
            for default in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
                self.expression(default)
        if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            for decorator in node.decorator_list:
                self.expression(decorator)

    def whole(self, node: ast.stmt) -> None:
        """Faults of the statement itself."""
        if isinstance(node, ast.Raise) or (
            isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant)
        ):
            self.replace(node, "pass")
        elif isinstance(node, ast.Return) and not _is_falsy(node.value):
            self.replace(node, "return None")
        elif isinstance(node, (ast.Continue, ast.Break)):
            self.replace(node, "break" if isinstance(node, ast.Continue) else "continue")
        elif isinstance(node, (ast.If, ast.While)):
            self.replace(node.test, f"not ({self.text(node.test)})")
        elif isinstance(node, ast.AugAssign) and type(node.op) in _ARITHMETIC:
            self.between(node.target, node.value, _ARITHMETIC[type(node.op)] + "=")

    def expression(self, node: ast.expr) -> None:
        """Faults of an expression and of all inside it."""
        if isinstance(node, ast.Compare):
            left = node.left
            for op, right in zip(node.ops, node.comparators, strict=True):
                self.between(left, right, _COMPARISONS[type(op)])
                left = right
        elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            self.between(node.left, node.right, _ARITHMETIC[type(node.op)])
        elif isinstance(node, ast.BoolOp):
            for left, right in zip(node.values, node.values[1:], strict=False):
                self.between(left, right, "or" if isinstance(node.op, ast.And) else "and")
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            self.replace(node, f"({self.text(node.operand)})")
        elif isinstance(node, ast.IfExp):
            self.replace(node.test, f"not ({self.text(node.test)})")
        elif isinstance(node, ast.Constant):
            self.constant(node)
        elif isinstance(node, ast.Call):
            for keyword in node.keywords:
                if keyword.arg != "strict":
                    self.remove(keyword)
        elif isinstance(node, (ast.List, ast.Tuple, ast.Set)) and _is_table(node.elts):
            for element in node.elts:
                self.remove(element)
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if key is not None:
                    self.remove(key, value)
        if not isinstance(node, ast.JoinedStr):
            for child in _expressions(node):
                self.expression(child)

    def constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self.replace(node, str(not value))
        elif isinstance(value, (int, float)):
            self.replace(node, repr(value + 1))
        elif isinstance(value, (str, bytes)) and self.text(node)[-3:] != '"""':
            known = value if isinstance(value, str) else value.decode("latin-1")
            if _NAME.fullmatch(known):
                self.replace(node, f"{self.text(node)[:-1]}_{self.text(node)[-1]}")

    def between(self, left: ast.AST, right: ast.AST, operator: str) -> None:
        """Replace the operator; parentheses around the operands stay where they are."""
        begin, end = self.range(left)[1], self.range(right)[0]
        gap = self.source[begin:end].decode()
        before, after = re.match(r"[)\s]*", gap), re.search(r"[(\s]*$", gap)
        assert before is not None
        assert after is not None
        self.add(begin, end, f"{before[0]}{operator}{after[0]}")

    def remove(self, first: ast.AST, last: ast.AST | None = None) -> None:
        """Remove an item with the comma behind it; the last of a tuple keeps the one before."""
        begin, end = self.range(first)[0], self.range(last or first)[1]
        comma = re.match(rb"\s*,", self.source[end:])
        self.add(begin, end + (len(comma[0]) if comma else 0), "")

    def replace(self, node: ast.AST, text: str) -> None:
        self.add(*self.range(node), text)

    def text(self, node: ast.AST) -> str:
        begin, end = self.range(node)
        return self.source[begin:end].decode()

    def range(self, node: ast.AST) -> tuple[int, int]:
        assert isinstance(node, (ast.expr, ast.stmt, ast.keyword))
        begin = self.starts[node.lineno - 1] + node.col_offset
        return begin, self.starts[(node.end_lineno or 1) - 1] + (node.end_col_offset or 0)

    def add(self, begin: int, end: int, text: str) -> None:
        if self.source[begin:end] != text.encode():
            self.found.append(Mutant(self.path, begin, end, text, *self.place))


def _is_falsy(node: ast.expr | None) -> bool:
    """Tell a result that is as good as None to most callers."""
    return node is None or (isinstance(node, ast.Constant) and not node.value)


def _is_table(items: list[ast.expr]) -> bool:
    """Tell rows from the parts of one row, such as a shape: they are of one kind."""
    kinds = {type(i.value) if isinstance(i, ast.Constant) else type(i) for i in items}
    return len(items) > 1 and len(kinds) == 1 and kinds <= {str, ast.Tuple, ast.Dict, ast.Call}


def _expressions(node: ast.AST) -> Iterator[ast.expr]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            yield child
        elif isinstance(child, ast.keyword) and child.arg == "strict":
            continue
        elif isinstance(child, (ast.keyword, ast.comprehension)):
            yield from _expressions(child)
