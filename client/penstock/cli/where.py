"""`--where`: a tiny expression language that chooses records. Pure.

    value.total > 100 and key == "a"
    not (headers.source in ["web", "app"]) or value.items[0].sku like "A-*"
    timestamp >= "2026-01-31T09:00" and size > 1000 and exists(value.error)

Names: `value`, `key`, `headers`, `topic`, `partition`, `offset`, `timestamp` (ISO 8601 text in
UTC, so that it compares as text), `size` (bytes of the value). `value` alone is the text; with a
path behind it, the value is read as JSON. What is missing, or not text, is `null`.
Operators, loosest first: `or`, `and`, `not`, then `== != < <= > >= in contains like`. In a pattern
of `like`, `*` is any text; there are no regular expressions: a hostile one takes for ever.

Nothing is executed: an expression is a tree of comparisons, as deep as its text is short, and one
evaluation takes time in proportion to expression and record. Values of different kinds are never
equal and never in order, so no record can make an expression fail.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

LENGTH_MAX: Final = 4096
DEPTH_MAX: Final = 40

Scope = Mapping[str, Callable[[], object]]
"""Name -> how to get its value; only asked for what the expression uses."""
Node = Callable[[Scope], object]

NAMES: Final = frozenset(
    {"value", "key", "headers", "topic", "partition", "offset", "timestamp", "size"}
)
_WORDS: Final = frozenset({"and", "or", "not", "in", "contains", "like", "exists"})
_CONSTANTS: Final[Mapping[str, object]] = {"true": True, "false": False, "null": None}
_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d{1,3})?)
    |(?P<text>"(?:[^"\\]|\\.)*")
    |(?P<text1>'[^']*')
    |(?P<name>[A-Za-z_][A-Za-z0-9_-]*)
    |(?P<op>==|!=|<=|>=|<|>|\(|\)|\[|\]|\.|,))""",
    re.VERBOSE,
)


class WhereError(ValueError):
    """The expression is wrong; the message points at the place."""


def parse(text: str, names: frozenset[str] = NAMES) -> Callable[[Scope], bool]:
    """Compile an expression into a predicate over the scope of a record, which has these names.

    Raises:
        WhereError: the text is not an expression, or longer or deeper than allowed.
    """
    if len(text) > LENGTH_MAX:
        raise WhereError(f"the expression is longer than {LENGTH_MAX} characters")
    parser = _Parser(text, names)
    node = parser.disjunction(0)
    if parser.kind != "end":
        raise parser.error("an operator or the end was expected")
    return lambda scope: _truth(node(scope))


class _Parser:
    def __init__(self, text: str, names: frozenset[str]) -> None:
        self.text = text
        self.names = names
        self.at = self.next_at = 0
        self.kind = self.token = ""
        self.advance()

    def error(self, why: str) -> WhereError:
        rest = self.text[self.at :].strip()[:20]
        place = f"before {rest!r}" if rest else "at the end"
        return WhereError(f"{why} {place} (character {self.at + 1})")

    def advance(self) -> str:
        taken = self.token
        self.at = self.next_at
        match = _TOKEN.match(self.text, self.at)
        if match is None:
            if self.text[self.at :].strip():
                raise self.error("a name, a value or an operator was expected")
            self.kind, self.token = "end", ""
            return taken
        kind = str(match.lastgroup)
        self.next_at = match.end()
        self.token = match[kind]
        self.kind = "text" if kind == "text1" else kind
        if self.kind == "name" and self.token in _WORDS:
            self.kind = "op"
        return taken

    def accept(self, *tokens: str) -> str:
        """Take the operator that stands here, if it is one of these."""
        return self.advance() if self.kind == "op" and self.token in tokens else ""

    def expect(self, token: str) -> None:
        if not self.accept(token):
            raise self.error(f"{token!r} was expected")

    def disjunction(self, depth: int) -> Node:
        parts = [self.conjunction(depth)]
        while self.accept("or"):
            parts.append(self.conjunction(depth))
        if len(parts) == 1:
            return parts[0]
        return lambda scope: any(_truth(part(scope)) for part in parts)

    def conjunction(self, depth: int) -> Node:
        parts = [self.negation(depth)]
        while self.accept("and"):
            parts.append(self.negation(depth))
        if len(parts) == 1:
            return parts[0]
        return lambda scope: all(_truth(part(scope)) for part in parts)

    def negation(self, depth: int) -> Node:
        if depth >= DEPTH_MAX:
            raise self.error(f"the expression is nested deeper than {DEPTH_MAX}")
        if self.accept("not"):
            inner = self.negation(depth + 1)
            return lambda scope: not _truth(inner(scope))
        return self.comparison(depth)

    def comparison(self, depth: int) -> Node:
        left = self.operand(depth)
        operator = self.accept(*_COMPARE)
        if not operator:
            return left
        right, compare = self.operand(depth), _COMPARE[operator]
        return lambda scope: compare(left(scope), right(scope))

    def operand(self, depth: int) -> Node:
        if self.accept("("):
            inner = self.disjunction(depth + 1)
            self.expect(")")
            return inner
        if self.accept("exists"):
            self.expect("(")
            path = self.path()
            self.expect(")")
            return lambda scope: path(scope) is not None
        if self.accept("["):
            return self.sequence(depth)
        if self.kind in ("number", "text") or self.token in _CONSTANTS:
            constant = self.constant()
            return lambda _scope: constant
        return self.path()

    def sequence(self, depth: int) -> Node:
        if depth >= DEPTH_MAX:
            raise self.error(f"the expression is nested deeper than {DEPTH_MAX}")
        items: list[Node] = []
        while not self.accept("]"):
            if items:
                self.expect(",")
            items.append(self.operand(depth + 1))
        return lambda scope: [item(scope) for item in items]

    def constant(self) -> object:
        if self.kind == "name":
            return _CONSTANTS[self.advance()]
        if self.kind == "number":
            text = self.advance()
            return float(text) if set(text) & set(".eE") else int(text)
        if self.token.startswith("'"):
            return self.advance()[1:-1]
        try:
            text = str(msgspec.json.decode(self.token, type=str))
        except msgspec.DecodeError:
            raise self.error("a text with valid escapes was expected") from None
        self.advance()
        return text

    def path(self) -> Node:
        if self.kind != "name":
            raise self.error("a name or a value was expected")
        if self.token not in self.names:
            raise self.error(f"the names are {', '.join(sorted(self.names))}: none of them stands")
        name, steps = self.advance(), self.steps()
        if not steps:
            return lambda scope: scope[name]()
        if name == "value":
            name = "json"
        return lambda scope: _walk(scope[name](), steps)

    def steps(self) -> list[str | int]:
        steps: list[str | int] = []
        while True:
            if self.accept("."):
                if self.kind not in ("name", "op") or not self.token[0].isidentifier():
                    raise self.error("the name of a field was expected")
                steps.append(self.advance())
            elif self.accept("["):
                step = self.constant() if self.kind in ("number", "text") else None
                if not isinstance(step, str | int):
                    raise self.error("a position or the quoted name of a field was expected")
                self.expect("]")
                steps.append(step)
            else:
                return steps


def _walk(value: object, steps: list[str | int]) -> object:
    for step in steps:
        if isinstance(value, dict) and isinstance(step, str):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and -len(value) <= step < len(value):
            value = value[step]
        else:
            return None
    return value


def _truth(value: object) -> bool:
    return value is not None and value is not False


def _kind(value: object) -> object:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return "number"
    return type(value)


def _equal(left: object, right: object) -> bool:
    return _kind(left) == _kind(right) and bool(left == right)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[object, object], bool]:
    def check(left: object, right: object) -> bool:
        kind = _kind(left)
        return kind == _kind(right) and kind in ("number", str) and compare(left, right)

    return check


def _contains(whole: object, part: object) -> bool:
    if isinstance(whole, str) and isinstance(part, str):
        return part in whole
    if isinstance(whole, dict):
        return isinstance(part, str) and part in whole
    return isinstance(whole, list) and any(_equal(item, part) for item in whole)


def _like(text: object, pattern: object) -> bool:
    return isinstance(text, str) and isinstance(pattern, str) and glob(text, pattern)


def glob(text: str, pattern: str) -> bool:
    """Does the pattern, in which `*` stands for any text, match the whole text?"""
    first, *rest = pattern.split("*")
    if not rest:
        return text == pattern
    last = rest.pop()
    if not text.startswith(first):
        return False
    at = len(first)
    for part in rest:  # the leftmost place is always a right one
        found = text.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return len(text) - len(last) >= at and text.endswith(last)


_COMPARE: Final[Mapping[str, Callable[[object, object], bool]]] = {
    "==": _equal,
    "!=": lambda left, right: not _equal(left, right),
    "<": _ordered(lambda left, right: left < right),
    "<=": _ordered(lambda left, right: left <= right),
    ">": _ordered(lambda left, right: left > right),
    ">=": _ordered(lambda left, right: left >= right),
    "in": lambda item, whole: _contains(whole, item),
    "contains": _contains,
    "like": _like,
}
