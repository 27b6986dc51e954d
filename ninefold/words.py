r"""What a word of a text is: one rule for the baseline, the model, its package and an explanation.

A word is a run of ASCII letters and digits, in lower case, or of characters beyond Latin-1's signs. That rule is
written once, as a regular expression that Python and ONNX Runtime read alike: their ideas of ``\w`` and of lower case
differ.
"""

from __future__ import annotations

import re

_RANGES = (("0", "9"), ("A", "Z"), ("a", "z"), ("\u00c0", "\u1fff"), ("\u2c00", "\u2fff"), ("\u3040", "\ufeff"))
WORD = re.compile("[" + "".join(f"{a}-{b}" for a, b in _RANGES) + "\U00010000-\U0010ffff]+")
"""Matches a word."""
WORD_RE2 = "[" + "".join(f"\\x{{{ord(a):x}}}-\\x{{{ord(b):x}}}" for a, b in _RANGES) + "\\x{10000}-\\x{10ffff}]+"
"""The same expression as RE2 spells it."""

_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def lower(text: str) -> str:
    """The text with A to Z in lower case, and nothing else changed: places and lengths stay."""
    return text.translate(_LOWER)


def words_of(text: str) -> list[str]:
    """The words of a text, in their order."""
    return WORD.findall(lower(text))
