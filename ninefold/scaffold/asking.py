"""Getting the five answers: from the options; what they leave open is asked on a terminal, and refused elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from rich.console import Console
from rich.prompt import Prompt

from ninefold.clock import parse_duration
from ninefold.errors import NinefoldError, UsageError
from ninefold.scaffold.answers import (
    NO_TIME,
    Answers,
    check_key,
    check_problem,
    check_target,
    check_time,
    guess_key,
    guess_problem,
    guess_target,
    guess_time,
)
from ninefold.scaffold.facts import Facts

T = TypeVar("T")

LONGEST_DELAY = timedelta(days=36_500)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What the options say of the five; None for what is left open."""

    key: str | None = None
    time: str | None = None
    target: str | None = None
    kind: str | None = None
    truth_delay: str | None = None


def collect(facts: Facts, given: Given, console: Console, *, interactive: bool) -> Answers:
    """Collects the answers, each checked against the table.

    Args:
        facts: What the table is.
        given: The options.
        console: Where it is asked.
        interactive: Whether there is somebody to ask.

    Raises:
        UsageError: An answer is wrong; or it is missing and nobody can be asked: the message names the option.
    """
    asker = _Asker(console, interactive)
    key = asker.answer(
        "--key", "Which column, or columns with commas between, name a row", given.key, guess_key(facts),
        lambda text: check_key(facts, text),
    )  # fmt: skip
    time = asker.answer(
        "--time", f"Which column says when the question is asked ({NO_TIME} where there is no time)", given.time,
        guess_time(facts), lambda text: check_time(facts, text),
    )  # fmt: skip
    taken = (*key, *([time] if time is not None else []))
    sources = [facts.columns[name].source for name in taken]
    target = asker.answer(
        "--target", "Which column is to be predicted", given.target, guess_target(facts, sources),
        lambda text: check_target(facts, text, taken),
    )  # fmt: skip
    problem = asker.answer(
        "--kind", "What is it: a number (regression), or one of two classes (binary)", given.kind,
        guess_problem(facts.columns[target]), lambda text: check_problem(text, facts.columns[target]),
    )  # fmt: skip
    delay = asker.answer(
        "--truth-delay", "How long after the question is its truth known, at the latest (6h, 2d)", given.truth_delay,
        "1d", _truth_delay,
    )  # fmt: skip
    return Answers(key=key, time=time, target=target, problem=problem, truth_delay=delay)


def _truth_delay(text: str) -> timedelta:
    delay = parse_duration(text.strip(), field="--truth-delay")
    if delay > LONGEST_DELAY:
        raise UsageError(
            f"--truth-delay: {text.strip()} is longer than a century.", remedy="Nothing could be learned in time."
        )
    return delay


class _Asker:
    def __init__(self, console: Console, interactive: bool) -> None:
        self._console = console
        self._interactive = interactive

    def answer(self, option: str, question: str, given: str | None, guess: str, check: Callable[[str], T]) -> T:
        if given is not None:
            return check(given)
        if not self._interactive:
            hint = f"; the data suggest {guess}" if guess else ""
            raise UsageError(f"{option} is missing{hint}.", remedy=f"{question}? Say it: {option} {guess or 'COLUMN'}")
        while True:
            text = (
                Prompt.ask(f"{question}?", console=self._console, default=guess)
                if guess
                else Prompt.ask(f"{question}?", console=self._console)
            )
            try:
                return check(text)
            except NinefoldError as error:
                self._console.print(str(error), style="red")
