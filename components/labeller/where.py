"""``--where``: a small expression over what was asked and answered, parsed here and never run as code.

    prediction between 0.4 and 0.6 and version = 3 and not (input contains "tea" or fallback is null)

Names are request fields, features (``customer__tenure``), ``prediction``, ``version``, ``cohort``, ``fallback``,
``key`` and ``decided_at``. Comparisons are ``=``, ``!=``, ``<``, ``<=``, ``>``, ``>=``, ``between``, ``in (…)``,
``contains`` (letters of either case) and ``is [not] null``, joined by ``and``, ``or``, ``not`` and parentheses. As in
SQL a comparison with null is neither true nor false, and what is not true is not picked.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ninefold.clock import parse_instant
from ninefold.errors import InvalidInput
from ninefold.fields import Field
from ninefold.records import Prediction
from ninefold.usecase import UseCase

LONGEST = 2_000
"""Characters of an expression."""
DEEPEST = 50
"""Parentheses and ``not`` within each other."""

Test = Callable[[Mapping[str, Any]], bool | None]
Condition = Callable[[Prediction], bool]

_TOKEN = re.compile(
    r"""\s*(?:(?P<number>-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
          |(?P<text>"(?:[^"]|"")*"|'(?:[^']|'')*')
          |(?P<word>[^\W\d]\w*)
          |(?P<sign><=|>=|!=|<>|=|<|>|\(|\)|,))""",
    re.VERBOSE,
)
_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "!=": operator.ne, "<>": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt,
    ">=": operator.ge,
}  # fmt: skip
_KEYWORDS = {"and", "or", "not", "in", "between", "contains", "is", "null", "true", "false"}
_OF_PREDICTION = {"prediction": "number", "version": "number", "cohort": "text", "fallback": "text", "key": "text",
                  "decided_at": "time"}  # fmt: skip


def where(text: str, use_case: UseCase) -> Condition:
    """Reads an expression.

    Args:
        text: The expression.
        use_case: Declares the names.

    Returns:
        Whether a prediction is meant.

    Raises:
        InvalidInput: It can't be read; the message says where.
    """
    if len(text) > LONGEST:
        raise InvalidInput("where", f"is {len(text):,} characters long.", remedy=f"Write at most {LONGEST:,}.")
    test = _Parser(text, _kinds(use_case)).read()
    return lambda prediction: test(_values(prediction)) is True


def _kinds(use_case: UseCase) -> dict[str, str]:
    """Name → ``number``, ``text``, ``boolean``, ``time``, or empty where it may be any of them."""
    features = {name: "" for view in use_case.feature_views() for name in view.features}
    columns = {f"{view.name}__{column.name}": _kind(column) for view in use_case.batch_views for column in view.columns}
    # What a use case declares under such a name stands behind it.
    return features | columns | {f.name: _kind(f) for f in use_case.request} | _OF_PREDICTION


def _kind(field: Field) -> str:
    return {"integer": "number", "category": "text"}.get(field.kind, field.kind)


def _values(prediction: Prediction) -> dict[str, Any]:
    return {
        **prediction.features,
        **prediction.request,
        "prediction": prediction.value,
        "version": prediction.version,
        "cohort": prediction.cohort,
        "fallback": prediction.fallback,
        "key": prediction.key,
        "decided_at": prediction.decided_at,
    }


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


class _Parser:
    """A parser by recursive descent; its depth is bounded."""

    def __init__(self, text: str, kinds: Mapping[str, str]) -> None:
        self._kinds = kinds
        self._tokens = _tokens(text)
        self._place = 0
        self._depth = 0

    def read(self) -> Test:
        test = self._either()
        if self._next.kind != "end":
            raise self._wrong("and, or, or the end")
        return test

    @property
    def _next(self) -> _Token:
        return self._tokens[self._place]

    def _take(self, *texts: str) -> bool:
        """Whether the next one is one of these words or signs; it is then behind us."""
        found = self._next.kind in ("word", "sign") and self._next.text.lower() in texts
        self._place += found
        return found

    def _need(self, text: str) -> None:
        if not self._take(text):
            raise self._wrong(text)

    def _wrong(self, wanted: str) -> InvalidInput:
        found = "the expression ends" if self._next.kind == "end" else f"there is {self._next.text!r:.60}"
        return InvalidInput("where", f"at character {self._next.at + 1} {found}.", remedy=f"Expected: {wanted}.")

    def _either(self) -> Test:
        tests = [self._both()]
        while self._take("or"):
            tests.append(self._both())
        return tests[0] if len(tests) == 1 else lambda row: _any(test(row) for test in tests)

    def _both(self) -> Test:
        tests = [self._one()]
        while self._take("and"):
            tests.append(self._one())
        return tests[0] if len(tests) == 1 else lambda row: _not(_any(_not(test(row)) for test in tests))

    def _one(self) -> Test:
        self._depth += 1
        if self._depth > DEEPEST:
            raise InvalidInput("where", f"goes deeper than {DEEPEST}.", remedy="Write fewer parentheses.")
        try:
            if self._take("not"):
                denied = self._one()
                return lambda row: _not(denied(row))
            if self._take("("):
                test = self._either()
                self._need(")")
                return test
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> Test:
        token = self._next
        if token.kind != "word" or token.text.lower() in _KEYWORDS:
            raise self._wrong("a name, not, or a parenthesis")
        name = token.text
        if name not in self._kinds:
            raise InvalidInput(
                "where",
                f"at character {token.at + 1}: there is no {name!r:.60}.",
                remedy=f"There are {', '.join(sorted(self._kinds))}.",
            )
        self._place += 1
        if self._take("is"):
            denied = self._take("not")
            self._need("null")
            return lambda row: (row.get(name) is None) != denied
        if self._take("not"):
            test = self._listed(name)
            return lambda row: _not(test(row))
        if self._next.text.lower() in ("in", "between", "contains"):
            return self._listed(name)
        sign = self._next.text
        if sign not in _ORDERS:
            raise self._wrong("=, !=, <, <=, >, >=, between, in, contains or is")
        self._place += 1
        compare, value = _ORDERS[sign], self._literal(name)
        return lambda row: _compared(self._kinds[name], row.get(name), value, compare)

    def _listed(self, name: str) -> Test:
        """``in``, ``between`` and ``contains``."""
        kind = self._kinds[name]
        if self._take("between"):
            low = self._literal(name)
            self._need("and")
            high = self._literal(name)
            return lambda row: _not(
                _any(
                    (
                        _compared(kind, row.get(name), low, operator.lt),
                        _compared(kind, row.get(name), high, operator.gt),
                    )
                )
            )
        if self._take("contains"):
            if kind not in ("text", ""):
                raise InvalidInput("where", f"{name} is a {kind} and contains nothing.", remedy="Compare it with =.")
            part = self._literal(name)
            if not isinstance(part, str):
                raise InvalidInput("where", f"{name} contains {part!r}, which is no text.", remedy="Quote it.")
            sought = part.casefold()
            return lambda row: None if row.get(name) is None else sought in str(row[name]).casefold()
        self._need("in")
        self._need("(")
        values = [self._literal(name)]
        while self._take(","):
            values.append(self._literal(name))
        self._need(")")
        return lambda row: _any(_compared(kind, row.get(name), value, operator.eq) for value in values)

    def _literal(self, name: str) -> Any:
        """A number, a quoted text, true or false, of the kind that the name has."""
        token, kind = self._next, self._kinds[name]
        word = token.text.lower() if token.kind == "word" else ""
        if token.kind not in ("number", "text") and word not in ("true", "false"):
            raise self._wrong(f"a value for {name}: a number, a text in quotes, true or false")
        found = {"number": "number", "text": "text"}.get(token.kind, "boolean")
        wanted = "text" if kind == "time" else kind
        if wanted and found != wanted:
            raise InvalidInput(
                "where", f"at character {token.at + 1}: {name} is a {kind}, and {token.text!r:.60} is none."
            )
        self._place += 1
        if found == "boolean":
            return word == "true"
        if found == "number":
            return float(token.text)
        quote = token.text[0]
        text = token.text[1:-1].replace(quote * 2, quote)
        return parse_instant(text, field=f"where: {name}") if kind == "time" else text


def _tokens(text: str) -> list[_Token]:
    found, at = [], 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            raise InvalidInput(
                "where", f"at character {at + 1}: {text[at : at + 20]!r} can't be read.", remedy="Close every quote."
            )
        found.append(_Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
        at = match.end()
    return [*found, _Token("end", "", len(text))]


def _compared(kind: str, value: Any, with_what: Any, compare: Callable[[Any, Any], bool]) -> bool | None:
    if value is None:
        return None
    if kind == "time" and isinstance(value, str):
        value = parse_instant(value)
    if isinstance(with_what, bool):
        # A boolean feature is 0 or 1.
        value = bool(value)
    try:
        return compare(value, with_what)
    except TypeError:
        # A feature whose kind is not declared, compared with another kind.
        return None


def _not(value: bool | None) -> bool | None:
    return None if value is None else not value


def _any(values: Any) -> bool | None:
    """Whether one is true; unknown where none is and one is unknown."""
    unknown = False
    for value in values:
        if value:
            return True
        unknown |= value is None
    return None if unknown else False
