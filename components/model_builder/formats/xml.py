"""Writing XML as text: what needs escaping is escaped, and what no XML can hold is refused."""

from __future__ import annotations

import re

from ninefold.errors import PackageError

_ESCAPED = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;"}
)
_OUTSIDE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def escaped(value: str) -> str:
    """A text as XML holds it, in an attribute as well as between tags.

    Raises:
        PackageError: It has a character that no XML document can hold.
    """
    if found := _OUTSIDE.search(value):
        raise PackageError(
            f"The value {value!r:.60} can't stand in a PMML document: XML has no character {found[0]!r}.",
            remedy='Clean the values where they come from, or take the model format "onnx".',
        )
    return value.translate(_ESCAPED)


def element(tag: str, /, *children: str, **attributes: object) -> str:
    """An element.

    Args:
        tag: Its name.
        children: What is in it, as XML already.
        attributes: Its attributes; floats are written so that reading gives the same float, None is left out.
    """
    told = "".join(
        f' {key}="{escaped(repr(float(value)) if isinstance(value, float) else str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{tag}{told}>{''.join(children)}</{tag}>" if children else f"<{tag}{told}/>"
