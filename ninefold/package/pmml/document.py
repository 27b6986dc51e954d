"""From bytes to checked XML elements: no document type, no entity, nothing that is not known to be harmless.

The table below is the part of PMML 4.4 that is read. An element or an attribute outside of it may change what a model
answers, so it is refused by name, never stepped over.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ninefold.errors import ConfigurationError, PackageError

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

NAMESPACE = "{http://www.dmg.org/PMML-4_4}"

MAX_BYTES = 64 * 2**20
"""A longer document is refused: its elements take about ten times as much memory."""
MAX_DEPTH = 600
"""Elements within elements; a tree of LightGBM's has at most half as many."""

_FIELD = ("name", "optype", "dataType")
_MODEL = ("modelName", "functionName", "algorithmName")
_KNOWN: dict[str, tuple[str, ...]] = {
    "PMML": ("version",),
    "Header": ("description", "copyright"),
    "Application": ("name", "version"),
    "DataDictionary": ("numberOfFields",),
    "DataField": _FIELD,
    "MiningSchema": (),
    "MiningField": ("name", "usageType"),
    "Output": (),
    "OutputField": (*_FIELD, "feature"),
    "MiningModel": _MODEL,
    "Segmentation": ("multipleModelMethod",),
    "Segment": ("id",),
    "True": (),
    "TreeModel": (*_MODEL, "missingValueStrategy", "splitCharacteristic"),
    "Node": ("id", "score", "defaultChild"),
    "SimplePredicate": ("field", "operator", "value"),
    "SimpleSetPredicate": ("field", "booleanOperator"),
    "Array": ("n", "type"),
    "RegressionModel": (*_MODEL, "normalizationMethod"),
    "RegressionTable": ("intercept",),
    "NumericPredictor": ("name", "coefficient"),
    "LocalTransformations": (),
    "DerivedField": _FIELD,
    "NormContinuous": ("field", "mapMissingTo", "outliers"),
    "LinearNorm": ("orig", "norm"),
    "MapValues": ("outputColumn", "mapMissingTo", "defaultValue", "dataType"),
    "FieldColumnPair": ("field", "column"),
    "InlineTable": (),
    "row": (),
    "key": (),
    "number": (),
}
"""Element → its attributes."""

_ITEM = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|([^\s"]+))(?=\s|$)')


def parse(content: bytes) -> Element:
    """The root element of a document, every element and attribute of which is known; names come without namespace.

    Raises:
        ConfigurationError: What reads XML safely is not installed.
        PackageError: The document is no XML, is too long or too deep, has a document type or an entity, or holds what
            is not read here.
    """
    try:
        import defusedxml
        from defusedxml.ElementTree import ParseError, fromstring
    except ImportError as error:
        raise ConfigurationError(
            f"This package is PMML, and {error.name} is not installed.",
            remedy="Install Ninefold's extra: pip install '.[formats]'",
        ) from error
    if len(content) > MAX_BYTES:
        raise PackageError(f"The PMML document has {len(content):,} bytes; at most {MAX_BYTES:,} are read.")
    try:
        root: Element = fromstring(content, forbid_dtd=True)
    except defusedxml.DefusedXmlException as error:
        raise PackageError(
            f"The PMML document has a document type or an entity, which a model has no use for: {error!r:.200}."
        ) from error
    except (ParseError, ValueError, LookupError) as error:
        raise PackageError(f"The PMML document is not XML: {error}.") from error
    _check(root)
    if root.tag != "PMML" or root.get("version") != "4.4":
        raise PackageError(f"The document is {root.tag} {root.get('version')!r:.20}, not PMML 4.4.")
    return root


def _check(root: Element) -> None:
    pending = [(root, 1)]
    while pending:
        element, depth = pending.pop()
        tag = element.tag if isinstance(element.tag, str) else "?"
        name = tag.removeprefix(NAMESPACE)
        if name == tag or name not in _KNOWN or depth > MAX_DEPTH:
            why = f"{tag!r:.100}, which is not read here" if depth <= MAX_DEPTH else f"over {MAX_DEPTH} nested elements"
            raise PackageError(f"The PMML document holds {why}.")
        unknown = sorted(set(element.attrib) - set(_KNOWN[name]))
        if unknown:
            raise PackageError(f"The PMML document's {name} has {unknown[0]!r:.100}, which is not read here.")
        element.tag = name
        pending += [(child, depth + 1) for child in element]


def child(element: Element, name: str) -> Element:
    """The one child of a name.

    Raises:
        PackageError: There is none, or more than one.
    """
    found = element.findall(name)
    if len(found) != 1:
        raise PackageError(f"The PMML document's {element.tag} has {len(found)} {name}, not one.")
    return found[0]


def text(element: Element, name: str, *allowed: str) -> str:
    """An attribute, which has to be there, and to be one of the allowed values where some are given.

    Raises:
        PackageError: It is missing or another.
    """
    value = element.get(name)
    if value is None or (allowed and value not in allowed):
        wanted = f", not {' or '.join(allowed)}" if allowed else ""
        raise PackageError(f"The PMML document's {element.tag} has {name} = {value!r:.60}{wanted}.")
    return value


def number(element: Element, name: str) -> float:
    """An attribute that is a finite number.

    Raises:
        PackageError: It is missing or no such number.
    """
    return finite(text(element, name), f"{element.tag}'s {name}")


def finite(value: str, what: str) -> float:
    """A text as a finite number.

    Raises:
        PackageError: It is none.
    """
    try:
        found = float(value)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise PackageError(f"The PMML document's {what} is {value!r:.60}, no finite number.")
    return found


def items(array: Element) -> Iterator[str]:
    r"""The strings of an ``Array``: parted by white space, quoted where they hold some, ``\`` before a quote.

    Raises:
        PackageError: It is no array of strings, or their count is another than it says.
    """
    text(array, "type", "string")
    content, at, count = (array.text or "").rstrip(), 0, 0
    while at < len(content):
        found = _ITEM.match(content, at)
        if found is None:
            raise PackageError(f"The PMML document's Array goes on with {content[at : at + 40]!r}.")
        at, count = found.end(), count + 1
        yield re.sub(r"\\(.)", r"\1", found[1]) if found[1] is not None else found[2]
    if array.get("n") != str(count):
        raise PackageError(f"The PMML document's Array has {count} items and says {array.get('n')!r:.20}.")
