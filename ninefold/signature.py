"""A model's signature: what it needs to be asked, exactly; and what its training data looked like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ninefold.features import FeatureView
from ninefold.fields import Input


@dataclass(frozen=True, slots=True, kw_only=True)
class InputStatistics:
    """How one model input was distributed in the training set.

    Args:
        null_share: Share of nulls, 0–1.
        minimum, maximum, mean, deviation: Of a number, nulls left out; None for a category or where all are null.
        reference: What stands for "nothing known" in an explanation: a number's median, a category's mode.
        categories: Category → count in the training set, most frequent first; of a text: word → texts that hold it.
            None for a number.
        quantiles: Eleven deciles (0 %, 10 %, …, 100 %) of a number.
    """

    null_share: float
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    deviation: float | None = None
    reference: float | str | None = None
    categories: Mapping[str, int] | None = None
    quantiles: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A JSON object that ``from_json`` reads back."""
        return {
            "null_share": self.null_share,
            "minimum": self.minimum,
            "maximum": self.maximum,
            "mean": self.mean,
            "deviation": self.deviation,
            "reference": self.reference,
            "categories": dict(self.categories) if self.categories is not None else None,
            "quantiles": list(self.quantiles),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> InputStatistics:
        """Reads what ``to_json`` wrote."""
        return cls(**{**document, "quantiles": tuple(document["quantiles"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What a package needs to be asked, and what it answers.

    Args:
        use_case: Name or import path of the use case.
        problem: ``regression`` or ``binary``.
        inputs: The model's columns, in the order of an instance's values.
        views: The exact feature views, lengths included.
        derive_digest: Digest of the code that turns request and features into inputs.
        target: Name of the target.
        unit: Its unit.
        interval: Share of the truths that ``lower`` and ``upper`` are to hold between them; None where the package
            answers a prediction alone.
    """

    use_case: str
    problem: Literal["regression", "binary"]
    inputs: tuple[Input, ...]
    views: tuple[FeatureView, ...]
    derive_digest: str
    target: str
    unit: str | None = None
    interval: float | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON object that ``from_json`` reads back."""
        return {
            "use_case": self.use_case,
            "problem": self.problem,
            "inputs": [{"name": i.name, "kind": i.kind, "group": i.group} for i in self.inputs],
            "views": [view.to_json() for view in self.views],
            "derive_digest": self.derive_digest,
            "target": self.target,
            "unit": self.unit,
            # Left out where there is none: a package's digest is that of its JSON.
            **({"interval": self.interval} if self.interval is not None else {}),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Signature:
        """Reads what ``to_json`` wrote."""
        return cls(
            use_case=document["use_case"],
            problem=document["problem"],
            inputs=tuple(Input(**i) for i in document["inputs"]),
            views=tuple(FeatureView.from_json(v) for v in document["views"]),
            derive_digest=document["derive_digest"],
            target=document["target"],
            unit=document["unit"],
            interval=document.get("interval"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageManifest:
    """Everything that a package says of itself; the file ``package.json``.

    Args:
        format: ``onnx``, ``pmml``, ``skops``, or ``baseline`` (an import path and a digest of its module).
        signature: What it needs to be asked.
        statistics: Input name → its distribution in training.
        files: File name → SHA-256 of its content.
        baseline: ``{"path": "usecases.arrivals.contract:baseline", "digest": …}`` for the format ``baseline``.
        environment: Package name → version that trained it, and ``python``.
        training: What made it: family, parameters, seed, rows, window lengths, validation metric, parity error.
    """

    format: Literal["onnx", "pmml", "skops", "baseline"]
    signature: Signature
    statistics: Mapping[str, InputStatistics]
    files: Mapping[str, str] = field(default_factory=dict)
    baseline: Mapping[str, str] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """A JSON object that ``from_json`` reads back."""
        return {
            "schema": 1,
            "format": self.format,
            "signature": self.signature.to_json(),
            "statistics": {name: s.to_json() for name, s in self.statistics.items()},
            "files": dict(self.files),
            "baseline": dict(self.baseline) if self.baseline else None,
            "environment": dict(self.environment),
            "training": dict(self.training),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> PackageManifest:
        """Reads what ``to_json`` wrote."""
        return cls(
            format=document["format"],
            signature=Signature.from_json(document["signature"]),
            statistics={n: InputStatistics.from_json(s) for n, s in document["statistics"].items()},
            files=document["files"],
            baseline=document["baseline"],
            environment=document["environment"],
            training=document["training"],
        )
