"""The language of constraints: an expression over the names of hyperparameters that is true or false.

    warmup_epochs < epochs and (optimizer == "SGD" or not nesterov)

It has names, numbers, strings, true and false; ``+ - * / // %``; comparisons, chained ones too; ``in (..)`` and ``not
in (..)``; ``and or not``; parentheses. Operators bind as Python's do. A text is read and its types are checked in one
pass, into functions of the configuration. No power, no call and no attribute exist, and texts are short, so that
nothing can hang or reach further.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from workflow.errors import did_you_mean, show
from workflow.trial import Params, Value

Kind = Literal["number", "string", "logical"]

LONGEST = 500
"""Characters of an expression; operators in a row nest the functions that they become."""

_DEEPEST = 20
"""Parentheses and signs inside each other."""

_TOKEN = re.compile(
    r"""  (?P<number> (?: [0-9]+ \.? [0-9]* | \.[0-9]+ ) (?: [eE][+-]?[0-9]+ )? )
        | (?P<string> "[^"]*" | '[^']*' )
        | (?P<name> [A-Za-z_][A-Za-z0-9_.\-]* )
        | (?P<operator> \*\* | // | <= | >= | == | != | [-+*/%<>(),] )""",
    re.VERBOSE,
)
_WORDS = ("and", "or", "not", "in", "true", "false", "True", "False")
_COMPARISONS: Mapping[str, Callable[[Value, Value], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
_SUMS: Mapping[str, Callable[..., Value]] = {"+": operator.add, "-": operator.sub}
_PRODUCTS: Mapping[str, Callable[..., Value]] = {
    "*": operator.mul, "/": operator.truediv, "//": operator.floordiv, "%": operator.mod,
}  # fmt: skip
_GRAMMAR = "use names, numbers, strings, true, false, + - * / // %, < <= > >= == !=, in (..), and, or, not, ( )"
_REMEDIES = {"=": "write == to compare", "**": "write a product", "&": "write and", "|": "write or", "!": "write not"}


class ExpressionError(ValueError):
    """A text that is no expression. ``position`` counts its characters from 1."""

    def __init__(self, position: int, what: str, remedy: str = _GRAMMAR) -> None:
        super().__init__(f"character {position}: {what}")
        self.position, self.what, self.remedy = position, what, remedy


@dataclass(frozen=True)
class Constraint:
    """What an allowed configuration has to meet. Two are equal if their texts are."""

    text: str
    names: frozenset[str]
    _test: Callable[[Params], Value] = field(compare=False, repr=False)

    def holds(self, params: Params) -> bool:
        """Whether ``params`` meet it, or hold not all of the hyperparameters that it names.

        A configuration that divides by zero, or leaves the range of a float, doesn't meet it.
        """
        if not self.names <= params.keys():
            return True
        try:
            return bool(self._test(params))
        except ArithmeticError:
            return False


def parse_constraint(text: str, kinds: Mapping[str, Kind | None]) -> Constraint:
    """The constraint that ``text`` stands for; ``kinds`` has all names, with None for a kind that isn't known.

    Raises ExpressionError.

    >>> parse_constraint("2 * warmup < 5", {"warmup": "number"}).holds({"warmup": 3})
    False
    """
    if len(text) > LONGEST:
        raise ExpressionError(
            LONGEST + 1, f"is longer than {LONGEST} characters", "write several constraints, as a list"
        )
    parser = _Parser(text, kinds)
    test = parser.read().value
    return Constraint(text, frozenset(parser.names), test)


class _Token(NamedTuple):
    sort: str
    text: str
    position: int


class _Term(NamedTuple):
    """A part of an expression: the kind of its value, and the value by the configuration."""

    kind: Kind | None
    value: Callable[[Params], Value]
    position: int


def _tokens(text: str, names: Container[str]) -> Iterator[_Token]:
    at = 0
    while match := _TOKEN.match(text, at := _skip_space(text, at)):
        sort, found = str(match.lastgroup), match.group()
        if sort == "name":
            found = _known_part(found, names)
            sort = "word" if found in _WORDS else sort
        yield _Token(sort, found, at + 1)
        at += len(found)
    if at < len(text):
        remedy = "close the quotes" if text[at] in "\"'" else _REMEDIES.get(text[at], _GRAMMAR)
        raise ExpressionError(at + 1, f"{show(text[at])} has no meaning here", remedy)
    yield _Token("end", "", at + 1)


def _skip_space(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _known_part(text: str, names: Container[str]) -> str:
    """The longest known name at the start: a dash may be a part of a name, or a minus."""
    parts = text.split("-")
    known = ("-".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((name for name in known if name in names), parts[0])


class _Parser:
    """Recursive descent; each method reads one level of the grammar, from the loosest operator to the tightest."""

    def __init__(self, text: str, kinds: Mapping[str, Kind | None]) -> None:
        self.kinds = kinds
        self.tokens = list(_tokens(text, kinds))
        self.reserved = [token.text for token in self.tokens if token.sort == "word" and token.text in kinds]
        """Words of the language that hyperparameters are called by, too."""
        self.names: set[str] = set()
        self.depth = 0

    def read(self) -> _Term:
        whole = self._either()
        if self._next.sort != "end":
            raise self._unexpected()
        return self._as("logical", whole, "write a comparison, which is true or false")

    @property
    def _next(self) -> _Token:
        return self.tokens[0]

    def _take(self, *texts: str) -> _Token | None:
        """The next token, if it is one of these words or operators."""
        if self._next.sort in ("word", "operator") and self._next.text in texts:
            return self.tokens.pop(0)
        return None

    def _expect(self, text: str) -> None:
        if not self._take(text):
            raise self._unexpected(f"write {show(text)} there")

    def _unexpected(self, remedy: str = "") -> ExpressionError:
        token = self._next
        what = "ends too early" if token.sort == "end" else f"{show(token.text)} is not expected"
        if self.reserved:
            what += f"; {show(self.reserved[0])} is a word of constraints, which can name no hyperparameter in them"
            remedy = "rename the hyperparameter, or leave it out of constraints"
        return ExpressionError(token.position, what, remedy or _REMEDIES.get(token.text, _GRAMMAR))

    def _as(self, kind: Kind, term: _Term, remedy: str) -> _Term:
        if term.kind not in (kind, None):
            raise ExpressionError(term.position, f"a {term.kind} where a {kind} is needed", remedy)
        return term

    def _either(self) -> _Term:
        return self._joined("or", self._both, any)

    def _both(self) -> _Term:
        return self._joined("and", self._negation, all)

    def _joined(self, word: str, read: Callable[[], _Term], join: Callable[..., bool]) -> _Term:
        first = read()
        terms = [first]
        while self._take(word):
            terms.append(read())
        if len(terms) == 1:
            return first
        values = [self._as("logical", term, f"join comparisons by {word}").value for term in terms]
        return _Term("logical", lambda params: join(value(params) for value in values), first.position)

    def _negation(self) -> _Term:
        token = self._take("not")
        if token is None:
            return self._comparison()
        value = self._as("logical", self._inside(self._negation), "negate a comparison").value
        return _Term("logical", lambda params: not value(params), token.position)

    def _comparison(self) -> _Term:
        first = left = self._sum()
        tests: list[Callable[[Params], bool]] = []
        while token := self._take(*_COMPARISONS):
            right = self._sum()
            tests.append(self._compared(token, left, right))
            left = right
        negated = self._take("not")
        if self._take("in"):
            tests.append(self._among(left, negated=negated is not None))
        elif negated:
            raise self._unexpected("write not in (..)")
        if not tests:
            return first
        return _Term("logical", lambda params: all(test(params) for test in tests), first.position)

    def _compared(self, token: _Token, left: _Term, right: _Term) -> Callable[[Params], bool]:
        if None not in (left.kind, right.kind) and left.kind != right.kind:
            what = f"{token.text} cannot compare a {left.kind} with a {right.kind}"
            raise ExpressionError(token.position, what, "compare values of one kind")
        if token.text not in ("==", "!="):
            for term in (left, right):
                self._as("number", term, "only numbers have an order: use ==, != or in (..)")
        compare = _COMPARISONS[token.text]
        return lambda params: compare(left.value(params), right.value(params))

    def _among(self, term: _Term, *, negated: bool) -> Callable[[Params], bool]:
        opening = self._next
        self._expect("(")
        elements = [self._sum()]
        while self._take(","):
            elements.append(self._sum())
        self._expect(")")
        equal = [self._compared(_Token("operator", "==", opening.position), term, element) for element in elements]
        return lambda params: (True in [test(params) for test in equal]) is not negated  # all: one may divide by zero

    def _sum(self) -> _Term:
        return self._calculated(_SUMS, self._product)

    def _product(self) -> _Term:
        return self._calculated(_PRODUCTS, self._signed)

    def _calculated(self, operators: Mapping[str, Callable[..., Value]], read: Callable[[], _Term]) -> _Term:
        term = read()
        while token := self._take(*operators):
            term = self._applied(operators[token.text], term, read())
        return term

    def _applied(self, calculate: Callable[..., Value], left: _Term, right: _Term) -> _Term:
        for term in (left, right):
            self._as("number", term, "calculate with numbers only")
        return _Term("number", lambda params: calculate(left.value(params), right.value(params)), left.position)

    def _signed(self) -> _Term:
        token = self._take("+", "-")
        if token is None:
            return self._atom()
        value = self._as("number", self._inside(self._signed), "give a number a sign").value
        sign = -1 if token.text == "-" else 1
        return _Term("number", lambda params: sign * _number(value(params)), token.position)

    def _inside(self, read: Callable[[], _Term]) -> _Term:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise ExpressionError(self._next.position, "is nested too deeply", "leave parentheses and signs out")
        term = read()
        self.depth -= 1
        return term

    def _atom(self) -> _Term:
        if self._take("("):
            term = self._inside(self._either)
            self._expect(")")
            return term
        if token := self._take("true", "false", "True", "False"):
            return _constant("logical", token.text.lower() == "true", token)
        if self._next.sort not in ("number", "string", "name"):
            raise self._unexpected()
        token = self.tokens.pop(0)
        if token.sort == "number":
            return _constant("number", int(token.text) if token.text.isdigit() else float(token.text), token)
        return _constant("string", token.text[1:-1], token) if token.sort == "string" else self._named(token)

    def _named(self, token: _Token) -> _Term:
        name = token.text
        if name not in self.kinds:
            remedy = f"{did_you_mean(name, list(self.kinds))}; put a string in quotes"
            raise ExpressionError(token.position, f"{show(name)} is no hyperparameter", remedy)
        self.names.add(name)
        return _Term(self.kinds[name], lambda params: params[name], token.position)


def _constant(kind: Kind, value: Value, token: _Token) -> _Term:
    return _Term(kind, lambda params: value, token.position)


def _number(value: Value) -> float:
    assert not isinstance(value, str)
    return value
