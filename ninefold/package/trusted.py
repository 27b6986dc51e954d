"""The types of which a scikit-learn object may be, written here, and the check that a file holds no others.

skops builds an object from names in a file, and has a list of its own of what it trusts. It is longer than what our
models need, and several ways around it have been found. So a file's names are read here first, as JSON and nothing
else: what is not on this list is refused by name, before skops looks at the file.
"""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

from ninefold.errors import PackageError

_PROTOCOL = 2
"""Of skops' files. An older one is read by older rules, so it is refused, too."""
MAX_BYTES = 512 * 2**20
"""What a file may hold, unpacked."""
_SCHEMA = "schema.json"

_NODES: dict[str, tuple[str, ...]] = {
    "DTypeNode": ("numpy.dtype",),
    "DictNode": ("builtins.dict",),
    "FunctionNode": ("sklearn.utils.validation.check_array",),
    "JsonNode": ("builtins.str",),
    "ListNode": ("builtins.list",),
    "LossNode": (
        "sklearn._loss._loss.CyAbsoluteError",
        "sklearn._loss._loss.CyHalfBinomialLoss",
        "sklearn._loss._loss.CyHalfSquaredError",
    ),
    "NdArrayNode": (
        *("numpy.ndarray", "numpy.bool", "numpy.float32", "numpy.float64"),
        *("numpy.int32", "numpy.int64", "numpy.uint8", "numpy.uint64"),
    ),
    "ObjectNode": (
        "sklearn._loss.link.IdentityLink",
        "sklearn._loss.link.Interval",
        "sklearn._loss.link.LogitLink",
        "sklearn._loss.loss.AbsoluteError",
        "sklearn._loss.loss.HalfBinomialLoss",
        "sklearn._loss.loss.HalfSquaredError",
        "sklearn.compose._column_transformer.ColumnTransformer",
        "sklearn.ensemble._hist_gradient_boosting.binning._BinMapper",
        "sklearn.ensemble._hist_gradient_boosting.gradient_boosting.HistGradientBoostingClassifier",
        "sklearn.ensemble._hist_gradient_boosting.gradient_boosting.HistGradientBoostingRegressor",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.feature_extraction.text.TfidfTransformer",
        "sklearn.feature_extraction.text.TfidfVectorizer",
        "sklearn.impute._base.MissingIndicator",
        "sklearn.impute._base.SimpleImputer",
        "sklearn.linear_model._huber.HuberRegressor",
        "sklearn.linear_model._logistic.LogisticRegression",
        "sklearn.linear_model._ridge.Ridge",
        "sklearn.pipeline.Pipeline",
        "sklearn.preprocessing._data.StandardScaler",
        "sklearn.preprocessing._encoders.OneHotEncoder",
        "sklearn.preprocessing._encoders.OrdinalEncoder",
        "sklearn.preprocessing._function_transformer.FunctionTransformer",
        "sklearn.preprocessing._label.LabelEncoder",
    ),
    # Of the one function above: nothing else that could be called is on the list.
    "PartialNode": ("functools.partial",),
    "SliceNode": ("builtins.slice",),
    "TupleNode": ("builtins.tuple",),
    "TypeNode": ("builtins.str", "numpy.float64"),
}
"""How skops builds something → what it may build that way."""

TRUSTED = frozenset(name for names in _NODES.values() for name in names)
"""Every name of the list, as skops takes it."""


def check_types(content: bytes) -> None:
    """Refuses an object's file that names a type which is not on the list. Nothing is imported, and nothing is built.

    Raises:
        PackageError: It does, or is no such file; the message names up to ten types.
    """
    try:
        schema = read_schema(content)
    except (zipfile.BadZipFile, ValueError, KeyError, RecursionError, NotImplementedError, EOFError) as error:
        raise PackageError(f"The model is not a file of skops: {type(error).__name__}: {error!s:.200}.") from error
    if not isinstance(schema, dict) or type(schema.get("protocol")) is not int or schema["protocol"] != _PROTOCOL:
        said = schema.get("protocol") if isinstance(schema, dict) else None
        raise PackageError(f"The model is of skops' protocol {said!r:.20}; this version reads {_PROTOCOL}.")
    foreign: set[str] = set()
    pending: list[Any] = [schema]
    while pending:
        found = pending.pop()
        if isinstance(found, list):
            pending += found
        elif isinstance(found, dict):
            pending += found.values()
            if not found.keys().isdisjoint(("__class__", "__module__", "__loader__")):
                name = f"{found.get('__module__')}.{found.get('__class__')}"
                way = found.get("__loader__")
                if name not in _NODES.get(way if isinstance(way, str) else "", ()):
                    foreign.add(f"{name!s:.100} ({way!s:.40})")
    if foreign:
        raise PackageError(
            f"The model holds what is not trusted: {', '.join(sorted(foreign)[:10])}.",
            remedy="Nothing of it was loaded. Trusted are the types that ninefold/package/trusted.py lists.",
        )


def read_schema(content: bytes) -> Any:
    """What a file says of its object, as JSON.

    Raises:
        zipfile.BadZipFile, ValueError, KeyError, RecursionError: It is no such file.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = archive.infolist()
        names = [file.filename for file in files]
        if sum(file.file_size for file in files) > MAX_BYTES or len(set(names)) < len(names):
            raise ValueError(f"it unpacks to more than {MAX_BYTES:,} bytes, or holds a name twice")
        return json.loads(archive.read(_SCHEMA))
