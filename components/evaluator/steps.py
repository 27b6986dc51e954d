"""The evaluator's work from files to files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from components.evaluator.evaluation import evaluate
from components.evaluator.evidence import Answers, Evidence, gather
from components.evaluator.gate import gate
from components.evaluator.latency import Latency, measure_latency
from components.evaluator.report import to_html, to_markdown
from components.evaluator.sources import SourceValues, by_source
from components.evaluator.testset import TestSet, read_test_set
from ninefold.loading import load_use_case
from ninefold.package import Predictor, load_predictor, predict_bounded, verify_package
from ninefold.truths import SOURCES
from ninefold.usecase import UseCase


def package_and_evaluate_baseline(
    training: str, validation: str, test: str, folder: str
) -> tuple[str, dict[str, float]]:
    """Packages the baseline under ``folder``, and judges it on the test set.

    Returns:
        The package's digest, and its metrics by name.
    """
    from components.model_builder.build import package_baseline

    found = read_test_set(test)
    use_case = load_use_case(found.card.signature.use_case)
    evaluation = evaluate(
        use_case, found.request, found.truth, found.baseline, blocks=found.blocks, version=0, weight=found.weight
    )
    digest, _ = package_baseline(training, validation, models_url=folder)
    return digest, {name: value for name, value in evaluation.metrics.items() if value == value}


def predict_test_set(
    digest: str, package: str, test: str, live: tuple[int, str, str], live_test: str, output: str
) -> None:
    """Predicts the test set with the candidate and the live version, and measures how fast each does.

    Args:
        digest: The candidate's digest.
        package: Folder that holds the candidate's package.
        test: Test set.
        live: Version (-1 for none), digest and URI of the live version.
        live_test: Test set with the live version's window lengths; rows may be more than the test set's.
        output: JSON file: ``candidate`` and ``live`` → ``predictions`` and ``intervals`` by key, and ``latency``;
            ``intervals`` is null where the package has none. ``live`` is null when none is live, or when today's
            ``derive`` is not the one that it was trained with: the front end does not serve such a version either.
    """
    found = read_test_set(test, SOURCES)
    document = {"candidate": _predict(load_predictor(Path(package) / digest, digest), found), "live": None}
    version, live_digest, uri = live
    if version > 0:
        predictor = load_predictor(uri, live_digest)
        if predictor.manifest.signature.derive_digest == found.card.signature.derive_digest:
            document["live"] = _predict(predictor, _only(read_inputs(live_test), found))
    Path(output).write_text(json.dumps(document))


def read_inputs(uri: str) -> pl.DataFrame:
    """A featurized, unsanitised data set as a frame."""
    return pl.read_parquet(uri)


def _only(frame: pl.DataFrame, test: TestSet) -> TestSet:
    """The test set with the inputs of another featurization of the same requests."""
    from ninefold.dataset import INPUT, columns_of

    keys = pl.DataFrame({"key": list(test.keys)})
    rows = keys.join(frame.unique(subset="key", keep="last"), on="key", how="left", maintain_order="left")
    inputs = columns_of(rows, INPUT)
    return replace(test, inputs={name: inputs[name] for name in test.inputs if name in inputs})


def _predict(predictor: Predictor, test: TestSet) -> dict[str, object]:
    values, interval = predict_bounded(predictor, test.inputs)
    return {
        "predictions": dict(zip(test.keys, values.tolist(), strict=True)),
        "intervals": None if interval is None else dict(zip(test.keys, interval.tolist(), strict=True)),
        "latency": measure_latency(predictor.predict_rows, test.rows(predictor.manifest.signature.inputs)).to_json(),
    }


def gather_evidence(
    use_case: str, digest: str, package: str, test: str, predictions: str, live_version: int, output: str
) -> dict[str, float]:
    """Judges and compares; writes the evidence, and returns numbers for the run's metrics."""
    found = read_test_set(test)
    document = json.loads(Path(predictions).read_text())
    manifest = verify_package(Path(package) / digest, digest)
    unserved = live_version if live_version > 0 and not document["live"] else None
    declared = load_use_case(use_case)
    evidence = gather(
        declared,
        found,
        candidate=_answers(document["candidate"], None, found),
        incumbent=_answers(document["live"], live_version, found) if document["live"] else None,
        incumbent_version=live_version if live_version >= 0 and unserved is None else None,
        unserved_version=unserved,
        statistics=manifest.statistics,
        # No package is written without parity, and the baseline's package has nothing that could differ.
        parity=manifest.format == "baseline" or "parity" in manifest.training,
    )
    evidence = replace(evidence, sources=_apart(declared, read_test_set(test, SOURCES), document))
    Path(output).write_text(json.dumps(evidence.to_json()))
    return {
        f"{name} {evaluation.metric.name}": evaluation.value.value
        for name in ("baseline", "incumbent", "candidate")
        if (evaluation := getattr(evidence, name)) is not None
    }


def _apart(use_case: UseCase, test: TestSet, document: dict[str, Any]) -> tuple[SourceValues, ...]:
    """The metric by who told the truth, of every model."""
    roles = {"baseline": Answers(version=0, prediction=test.baseline)}
    for role, name in (("incumbent", "live"), ("candidate", "candidate")):
        if document[name]:
            roles[role] = _answers(document[name], None, test)
    return by_source(use_case, test, roles)


def _answers(document: dict[str, Any], version: int | None, test: TestSet) -> Answers:
    mine = set(test.keys)
    places, values = test.align({key: value for key, value in document["predictions"].items() if key in mine})
    bounds = document.get("intervals")
    return Answers(
        version=version,
        prediction=values,
        places=places,
        latency=Latency.from_json(document["latency"]),
        interval=None if bounds is None else np.array([bounds[test.keys[place]] for place in places], dtype=float),
    )


def decide_on(use_case: str, evidence: str, decision: str, report: str, summary: str) -> str:
    """Decides by the use case's gates; writes decision, HTML report and Markdown summary; returns the action."""
    declared = load_use_case(use_case)
    found = Evidence.from_json(json.loads(Path(evidence).read_text()))
    decided = gate(declared.gates, found)
    Path(decision).write_text(json.dumps(decided.to_json(), indent=1))
    Path(report).write_text(to_html(declared, found, decided))
    Path(summary).write_text(to_markdown(declared, found, decided))
    return decided.action
