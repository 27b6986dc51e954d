"""A draft as the files of a use case's folder: what a data scientist reads and goes on with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ninefold.clock import format_duration
from ninefold.fields import Field
from ninefold.scaffold.code import bracketed, call, duration, literal, names
from ninefold.scaffold.dividing import Clock
from ninefold.scaffold.draft import Draft
from ninefold.sources import Database, File
from ninefold.splits import NOW, TimeSplit

_CLOCKS: Mapping[Clock, str] = {
    "hour": '(at - at.astype("datetime64[D]")) / np.timedelta64(1, "h")',
    "weekday": '(at.astype("datetime64[D]").astype(np.int64) + 3.0) % 7.0',
    "month": 'at.astype("datetime64[M]").astype(np.int64) % 12 + 1.0',
}
_KIND = '"category" if f.kind == "category" else "number"'
_CLOCK_WORDS: Mapping[Clock, str] = {"hour": "the hour", "weekday": "the weekday (Monday is 0)", "month": "the month"}


def render(
    draft: Draft, source: File | Database, *, project: Path, zone: str, time_format: str | None
) -> dict[str, str]:
    """File name → text.

    Args:
        draft: What the folder says.
        source: Where its history comes from.
        project: The folder that holds the folder of use cases; a file in it is named by its path from there.
        zone: Zone of times without one.
        time_format: Format of times that are not ISO 8601.
    """
    files = {
        "__init__.py": f'"""{draft.title}"""\n\nfrom usecases.{draft.name}.contract import USE_CASE\n\n'
        '__all__ = ["USE_CASE"]\n',
        "contract.py": contract(draft),
        "etl.py": etl(draft, source, project=project, zone=zone, time_format=time_format),
        "README.md": readme(draft, source),
    }
    if isinstance(source, Database):
        files["query.sql"] = source.query.read_text(encoding="utf-8").rstrip() + "\n"
    return files


def contract(draft: Draft) -> str:
    """The declaration."""
    split = "TimeSplit" if isinstance(draft.split, TimeSplit) else "HashSplit"
    by_key = draft.block not in ("day", "hour")
    lines = [
        f'"""{draft.title}',
        "",
        "Made by `ninefold new`, yours from here on; docs/usecases.md explains every term.",
        '"""',
        "",
        "from __future__ import annotations",
        "",
        "from collections.abc import Mapping",
        "from datetime import timedelta",
        "from typing import Any",
        "",
        "import numpy as np",
        "",
        "from ninefold.fields import Columns, Field, Input, Metric",
        *(["from ninefold.rollout.policy import RolloutPolicy"] if by_key else []),
        f"from ninefold.splits import {split}",
        "from ninefold.usecase import UseCase",
        "",
        "Array = np.ndarray[Any, Any]",
        "",
        "REQUEST = (",
        *(_field(field, indent=4) + "," for field in draft.request),
        ")",
    ]
    lines += [
        bracketed("UNSEEN = (", names(draft.unseen), ")", alone=","),
        '"""Fields that the model does not see; it sees the others as they are, and what derive makes."""',
        "INPUTS = (",
        "    *(",
        f"        Input(name=f.name, kind={_KIND}, group=f.name, column=f.name)",
        "        for f in REQUEST",
        "        if f.name not in UNSEEN",
        "    ),",
        *(f'    Input(name="{name}", kind="text", group="{name}", column="{name}"),' for name in draft.texts),
        *(f'    Input(name="{clock}", group="when"),' for clock in draft.clocks),
        ")",
        *_usual(draft),
        "", "",
        *_derive(draft),
        "", "",
        *_baseline(draft),
        "", "",
        "def decide(request: Mapping[str, Any], prediction: float) -> dict[str, bool]:",
        '    """What follows from an answer. A first guess: return what your application does."""',
        '    return {"above_usual": prediction > USUAL}',
        "", "",
        *_block(draft),
        "", "",
        _use_case(draft, split, by_key=by_key),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _field(field: Field, *, indent: int = 0) -> str:
    given: dict[str, object] = {"name": field.name, "kind": field.kind}
    if field.minimum is not None:
        given["minimum"] = field.minimum
    if field.maximum is not None:
        given["maximum"] = field.maximum
    if field.nullable:
        given["nullable"] = True
    given["example"] = field.example
    return call("Field", {name: literal(value) for name, value in given.items()}, indent=indent)


def _usual(draft: Draft) -> list[str]:
    usual = draft.baseline
    where = "before the test begins" if draft.decided_at else "in the table"
    what = f"Share of {draft.target.name}" if draft.problem == "binary" else f"Median of {draft.target.name}"
    if usual.column is None:
        return [f"USUAL = {usual.usual!r}", f'"""{what} {where}."""']
    values = [f"{literal(value)}: {found!r}" for value, found in usual.values.items()]
    told = f"{what} {where}: of all rows, and of those with each {usual.column}."
    return [f"USUAL = {usual.usual!r}", bracketed("USUAL_WITH = {", values, "}"), f'"""{told}"""']


def _derive(draft: Draft) -> list[str]:
    head = "def derive(columns: Columns) -> dict[str, Array]:"
    if draft.decided_at is None or not draft.clocks:
        return [
            head,
            '    """What the model sees beside the fields: nothing yet. Give each a name here, and an Input above."""',
            "    return {}",
        ]
    words = ", ".join(_CLOCK_WORDS[clock] for clock in draft.clocks)
    return [
        head,
        f'    """What the model sees beside the fields: {words}, in UTC."""',
        f'    at = columns["{draft.decided_at}"]',
        bracketed("return {", (f'"{clock}": {_CLOCKS[clock]}' for clock in draft.clocks), "}", indent=4),
    ]


def _baseline(draft: Draft) -> list[str]:
    head = "def baseline(inputs: Columns) -> Array:"
    column = draft.baseline.column
    if column is None:
        first = (*draft.numbers, *draft.categories, *draft.texts)[0]
        return [
            head,
            '    """What a person would say who knows nothing of the row: the usual."""',
            f'    return np.full(len(inputs["{first}"]), USUAL)',
        ]
    return [
        head,
        f'    """What a person would say who knows the row\'s {column} alone; the usual where that is unknown."""',
        f'    return np.array([USUAL_WITH.get(value, USUAL) for value in inputs["{column}"]], dtype=np.float64)',
    ]


def _block(draft: Draft) -> list[str]:
    head = "def block(request: Columns) -> Array:"
    if draft.block in ("day", "hour"):
        unit = "D" if draft.block == "day" else "h"
        return [
            head,
            f'    """The independent unit of a test: the {draft.block}, as what happens on one goes together."""',
            f'    return request["{draft.decided_at}"].astype("datetime64[{unit}]").astype(str).astype(object)',
        ]
    return [
        head,
        f'    """The independent unit of a test: one {draft.block}. Where more belongs together, say so here."""',
        f'    return request["{draft.block}"]',
    ]


def _use_case(draft: Draft, split: str, *, by_key: bool) -> str:
    metric = (
        'Metric(name="auc", direction="maximize")'
        if draft.problem == "binary"
        else 'Metric(name="mae", direction="minimize")'
    )
    given = {
        "name": literal(draft.name),
        "title": literal(draft.title),
        "problem": literal(draft.problem),
        "request": "REQUEST",
        "key": bracketed("(", names(draft.key), ")", alone=","),
        "decided_at": literal(draft.decided_at),
        "target": _field(draft.target),
        "truth_delay": duration(draft.truth_delay),
        "metric": metric,
        "extract": literal(f"usecases.{draft.name}.etl:extract"),
        "source_state": literal(f"usecases.{draft.name}.etl:source_state"),
        "split": _split(draft, split),
        "inputs": "INPUTS",
        "derive": "derive",
        "may_tell_alone": bracketed("(", names(draft.allowed), ")", alone=","),
        "baseline": "baseline",
        "decide": "decide",
        "block": "block",
        "rollout": "RolloutPolicy(harm_blocks=200, minimum_blocks=500, tightest_at=1_500, maximum_blocks=5_000)",
        "explain": '{i.group: i.group.replace("_", " ") for i in INPUTS}',
        **_bounds(draft),
    }
    unsaid = {"may_tell_alone": bool(draft.allowed), "rollout": by_key, "decided_at": draft.decided_at is not None}
    lines = [f"    {name}={value}," for name, value in given.items() if unsaid.get(name, True)]
    if isinstance(draft.split, TimeSplit) and draft.split.until != NOW:
        place = next(i for i, line in enumerate(lines) if line.startswith("    split="))
        lines.insert(place, '    # The table ends there. Write until="now" once it is added to.')
    return "\n".join(["USE_CASE = UseCase(", *lines, ")"])


def _bounds(draft: Draft) -> dict[str, str]:
    if draft.problem == "binary":
        return {"minimum_prediction": "0.0", "maximum_prediction": "1.0"}
    return {"minimum_prediction": "0.0"} if draft.target.minimum is not None else {}


def _split(draft: Draft, name: str) -> str:
    if isinstance(draft.split, TimeSplit):
        split = draft.split
        given = {"validation": split.validation, "test": split.test, "until": split.until}
        return call(name, {key: literal(value) for key, value in given.items()})
    return call(name, {"salt": literal(draft.name)})


def etl(draft: Draft, source: File | Database, *, project: Path, zone: str, time_format: str | None) -> str:
    """What reads the history; loaded by the step that runs it alone."""
    told: dict[str, str] = {"target": literal(draft.target.name)}
    if draft.classes is not None:
        told["classes"] = bracketed("{", (f"{literal(v)}: {c!r}" for v, c in draft.classes.items()), "}")
    if draft.known_at is not None:
        told["known_at"] = literal(draft.known_at)
    if zone != "UTC":
        told["zone"] = literal(zone)
    if time_format is not None:
        told["time_format"] = literal(time_format)
    arguments = bracketed(
        "return table_history(", ["USE_CASE", "SOURCE", *(f"{k}={v}" for k, v in told.items())], ")", indent=4
    )
    named, made = _source(draft, source, project)
    return f'''"""History of {draft.name}: {named}."""

from __future__ import annotations

from pathlib import Path

from ninefold.sources import {type(source).__name__}, table_history
from ninefold.usecase import History
from usecases.{draft.name}.contract import USE_CASE

{made}


def extract() -> History:
    """Requests and truths, each value checked against its field."""
{arguments}


def source_state() -> str:
    """Changes when there is something else to extract."""
    return SOURCE.state()
'''


def _source(draft: Draft, source: File | Database, project: Path) -> tuple[str, str]:
    columns = bracketed("{", (f"{literal(old)}: {literal(new)}" for old, new in source.columns.items()), "}")
    if isinstance(source, File):
        given = {"path": _path(source.path, project)}
        if source.separator != ",":
            given["separator"] = literal(source.separator)
        if source.columns:
            given["columns"] = columns
        # It stands in the text of a module.
        name = "".join(letter if letter.isprintable() and letter not in '"\\' else "_" for letter in source.path.name)
        return f"the rows of {name}", call("File", given, before="SOURCE = ")
    given = {
        "name": literal(draft.name),
        "url": literal(source.url),
        "password": literal(source.password),
        "query": 'Path(__file__).with_name("query.sql")',
        "known_at": literal(source.known_at),
    }
    if source.parameters:
        given["parameters"] = bracketed("{", (f"{literal(k)}: {literal(v)}" for k, v in source.parameters.items()), "}")
    if source.columns:
        given["columns"] = columns
    return "the rows of query.sql, of which a run reads those that became known since the last", call(
        "Database", given, before="SOURCE = "
    )


def _path(path: Path, project: Path) -> str:
    if path.is_relative_to(project):
        # Moves along with the project, into an image for instance.
        return f"Path(__file__).parents[2] / {literal(path.relative_to(project).as_posix())}"
    return f"Path({literal(str(path))})"


def readme(draft: Draft, source: File | Database) -> str:
    """What it is, and what to do next."""
    left = "; ".join(f"`{column}`: {why}" for column, why in draft.left_out.items()) or "nothing"
    secret = (
        f"The database's password is read from the environment variable `{source.password}`.\n"
        if isinstance(source, Database)
        else ""
    )
    split = "by time" if isinstance(draft.split, TimeSplit) else "by a hash of the key"
    return f"""# {draft.title}

    ninefold run training {draft.name}
    ninefold up {draft.name}

`contract.py` declares, `etl.py` reads {source.where}. Data are divided {split}; truths are known after
{format_duration(draft.truth_delay)}. Left out of requests: {left}.
{secret}
Next:

- Give fields units, ranges (`minimum`, `maximum`) and `categories`; out of range, the baseline answers.
- Say in `decide` what follows from an answer, and in `block` what is independent.
- Write the rule that you would use yourself into `baseline`: a model has to beat it.
- Take out of `REQUEST` what a client can't know when it asks, and look it up instead: `batch_views`, `windows`.
- Name `slices` whose errors matter.
"""
