"""``ninefold evaluate``: judge predictions, a version, a package or the baseline on a test set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from components.evaluator.evidence import Answers
    from components.evaluator.testset import TestSet
    from ninefold.package import Predictor
    from ninefold.usecase import UseCase


def evaluate(
    use_case: Annotated[str, typer.Argument(help="Name of a use case, or its import path.")],
    test_set: Annotated[
        str | None, typer.Option(help="Name of a registered test set, or a path; by default the newest registered.")
    ] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="CSV, Parquet or JSON file with the columns key and prediction.")
    ] = None,
    version: Annotated[int | None, typer.Option(min=0, help="A registered version.")] = None,
    package: Annotated[Path | None, typer.Option(help="Folder of a package.")] = None,
    digest: Annotated[str | None, typer.Option(help="Digest of --package; by default its folder's name.")] = None,
    baseline: Annotated[bool, typer.Option("--baseline", help="The baseline alone.")] = False,
    report: Annotated[Path | None, typer.Option(help="Folder for report.html, report.md and pictures.")] = None,
) -> None:
    """Score predictions against the test truths: metrics, errors and slices, beside the baseline."""
    from rich.console import Console

    from components.evaluator.evidence import gather
    from components.evaluator.report import compose, write_report
    from components.evaluator.testset import read_test_set
    from ninefold.errors import UsageError
    from ninefold.loading import load_use_case
    from ninefold.settings import settings

    chosen = [o is not None for o in (predictions, version, package)]
    if sum(chosen) + baseline != 1:
        raise UsageError("Say what to evaluate.", remedy="Give one of --predictions, --version, --package, --baseline.")
    declared = load_use_case(use_case)
    test = read_test_set(_test_set_path(settings(), declared, test_set))
    if predictions is not None:
        answers, who = _read_answers(predictions, test), str(predictions)
    elif version is not None:
        answers, who = _ask(_load_version(settings(), declared, version), test, version), f"version {version}"
    elif package is not None:
        answers, who = _ask(_load_package(package, digest), test, None), str(package)
    else:
        answers, who = None, "the baseline"
    evidence = gather(declared, test, candidate=answers)
    console = Console()
    console.print(f"{declared.title} Evaluated: {who}.", highlight=False)
    for section in compose(declared, evidence, None, pictured=False):
        if section.title in ("Metrics", "Intervals", "Slices") and section.table is not None:
            console.print(_rich(section.title, section.table.header, section.table.rows))
    if evidence.against_baseline is not None:
        console.print(f"It has {evidence.against_baseline.words('baseline')}", highlight=False)
    if report is not None:
        console.print(f"Report: {write_report(report, declared, evidence)}", highlight=False, soft_wrap=True)


def _test_set_path(settings: Any, use_case: UseCase, given: str | None) -> str:
    from components.evaluator.testset import find_test_set

    if given is not None and ("/" in given or given.endswith(".parquet")):
        return given
    return str(find_test_set(settings, use_case.name, given))


def _read_answers(path: Path, test: TestSet) -> Answers:
    import polars as pl

    from components.evaluator.evidence import Answers
    from ninefold.errors import DataError, UsageError

    try:
        match path.suffix:
            case ".csv":
                # Keys may look like numbers, and are texts.
                frame = pl.read_csv(path, infer_schema=False)
            case ".parquet":
                frame = pl.read_parquet(path)
            case ".json":
                frame = pl.read_json(path)
            case _:
                raise UsageError(f"{path} is no CSV, Parquet or JSON file.", remedy="Its name has to end so.")
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path} can't be read: {error}.") from error
    missing = {"key", "prediction"} - set(frame.columns)
    if missing:
        raise DataError(f"{path} has no column {' and no column '.join(sorted(missing))}.")
    frame = frame.select(pl.col("key").cast(pl.String), pl.col("prediction").cast(pl.Float64, strict=False))
    for what, count in (
        ("have no key", frame["key"].null_count()),
        ("repeat a key", len(frame) - frame["key"].n_unique()),
        ("have no number as prediction", int(frame["prediction"].is_finite().not_().fill_null(True).sum())),
    ):
        if count:
            raise DataError(f"{path}: {count:,} of {len(frame):,} rows {what}.")
    places, values = test.align(dict(frame.iter_rows()))
    return Answers(version=None, prediction=values, places=places)


def _load_version(settings: Any, use_case: UseCase, number: int) -> Predictor:
    from ninefold.dataset import local_path
    from ninefold.errors import NotFound
    from ninefold.package import load_predictor
    from ninefold.store import open_store

    store = open_store(settings.store_url)
    try:
        found = store.version(use_case.name, number)
    finally:
        store.close()
    if found is None:
        raise NotFound(f"{use_case.name} has no version {number}.", remedy="See: ninefold status")
    return load_predictor(local_path(found.uri), found.digest)


def _load_package(folder: Path, digest: str | None) -> Predictor:
    from ninefold.package import load_predictor

    return load_predictor(folder, digest or folder.resolve().name)


def _ask(predictor: Predictor, test: TestSet, version: int | None) -> Answers:
    from components.evaluator.evidence import Answers
    from components.evaluator.latency import measure_latency
    from ninefold.errors import DataError
    from ninefold.package import predict_bounded

    asked, made = predictor.manifest.signature, test.card.signature
    for what, differ in (
        ("input columns", asked.inputs != made.inputs),
        ("feature views or window lengths", asked.views != made.views),
        ("code of derive", asked.derive_digest != made.derive_digest),
    ):
        if differ:
            raise DataError(
                f"The test set was made with other {what} than the package.",
                remedy="Use a test set of the run that made the package.",
            )
    prediction, interval = predict_bounded(predictor, test.inputs)
    return Answers(
        version=version,
        prediction=prediction,
        interval=interval,
        latency=measure_latency(predictor.predict_rows, test.rows(asked.inputs)),
    )


def _rich(title: str, header: tuple[str, ...], rows: tuple[tuple[str, ...], ...]) -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for place, name in enumerate(header):
        table.add_column(escape(name), justify="left" if place == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(f"[bold]{escape(c[1:])}[/bold]" if c.startswith("*") else escape(c) for c in row))
    return table
