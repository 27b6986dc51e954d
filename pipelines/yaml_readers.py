"""YAML as its two versions read it: 1.1, as Python does, and 1.2, as programs in Go do.

A text may mean a boolean, a number or a date to one and a word to the other. What is applied to a cluster must not.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from ninefold.errors import DataError

_CORE = {
    "tag:yaml.org,2002:bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "tag:yaml.org,2002:null": (r"~|null|Null|NULL|", "~nN\0"),
    "tag:yaml.org,2002:int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    "tag:yaml.org,2002:float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
}
"""The core schema of YAML 1.2: tag → what plain texts have it, and how they may begin."""


class _Old(yaml.SafeLoader):
    """A reader of YAML 1.1 as its specification has it: Python's own takes ``y`` and ``n`` for words."""


_Old.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"[yYnN]\Z"), list("yYnN"))
_Old.add_constructor("tag:yaml.org,2002:bool", lambda _, node: str(node.value).lower() in ("y", "yes", "true", "on"))


class _Core(yaml.SafeLoader):
    """A reader of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's way


for _tag, (_pattern, _first) in _CORE.items():
    _Core.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})\Z"), ["" if c == "\0" else c for c in _first])


def _int(_: yaml.SafeLoader, node: yaml.Node) -> int:
    text = str(node.value)
    # Zeros in front are no octal number.
    return int(text, 0) if re.match(r"0[ox]", text) else int(text)


def _float(_: yaml.SafeLoader, node: yaml.Node) -> float:
    return float(re.sub(r"\.(inf|nan)", r"\1", str(node.value).lower()))


_Core.add_constructor("tag:yaml.org,2002:int", _int)
_Core.add_constructor("tag:yaml.org,2002:float", _float)


def read_both(text: str, what: str) -> list[Any]:
    """Reads the documents of a text, which mean the same to readers of YAML 1.1 and 1.2.

    Args:
        text: The text.
        what: What it is, for messages.

    Raises:
        DataError: It can't be read, or something in it means different things to them; the message says where.
    """
    try:
        old, new = list(yaml.load_all(text, _Old)), list(yaml.load_all(text, _Core))
    except yaml.YAMLError as error:
        raise DataError(f"{what} is no YAML: {error}") from error
    where = _difference(old, new, "")
    if where is not None:
        raise DataError(
            f"{what} means different things to YAML 1.1 and 1.2: {where}.",
            remedy="Give the parameter another name, or quote the value.",
        )
    return old


def _difference(old: Any, new: Any, path: str) -> str | None:
    if isinstance(old, dict) and isinstance(new, dict):
        if [(type(key), key) for key in old] != [(type(key), key) for key in new]:
            return f"keys of {path or 'the top'} are {list(old)} and {list(new)}"
        found = (_difference(old[key], new[key], f"{path}/{key}") for key in old)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        found = (_difference(a, b, f"{path}/{i}") for i, (a, b) in enumerate(zip(old, new, strict=True)))
    elif type(old) is type(new) and (old == new or old != old):
        return None
    else:
        return f"{path or 'the top'} is {old!r} and {new!r}"
    return next((difference for difference in found if difference is not None), None)
