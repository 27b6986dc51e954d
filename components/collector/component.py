"""The collector's steps: thin shells for Kubeflow Pipelines."""

from typing import NamedTuple

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def look_up(use_case: str, until: str, run_id: str) -> NamedTuple(  # type: ignore[valid-type]
    "Live",
    [
        ("version", int),
        ("digest", str),
        ("uri", str),
        ("lengths", dict[str, str]),
        ("production", str),
        ("until", str),
        ("run_id", str),
    ],
):
    """What is live, and how much production holds: what later steps' caching goes by. Version -1 is none.

    A recurring run is told neither its end nor its name: empty ones are now, and a name made of it.
    """
    from collections import namedtuple

    from components.collector.production import named, state_of_production

    found = {**state_of_production(use_case), **named(use_case, until, run_id)}
    return namedtuple("Live", list(found))(**found)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def extract(use_case: str, production: str, code_digest: str, snapshot: dsl.Output[dsl.Artifact]) -> None:
    """Reads sources and production into one snapshot."""
    from pathlib import Path

    from components.collector.extract import extract, publish
    from ninefold.loading import load_use_case
    from ninefold.settings import settings
    from ninefold.store import open_store

    declared = load_use_case(use_case)
    store = open_store(settings().store_url)
    summary = extract(declared, store, Path(snapshot.path))
    publish(Path(snapshot.path), settings().folder("data") / declared.name)
    snapshot.metadata["requests"] = summary["requests"]
    snapshot.metadata["truths"] = summary["truths"]
    store.close()
