"""The route table that is asked for: pure, from what may answer, who answers, and what a rollout asks for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ninefold.rollout.stored import Routing
from ninefold.routes import InnerGateway, RouteTable, Variant
from serving.traffic.desired import Model


def variants_of(served: Iterable[tuple[Model, str]]) -> dict[int, Variant]:
    """Version → variant, of models and their servers' addresses."""
    return {
        model.version: Variant(version=model.version, url=url, package=model.package, digest=model.digest)
        for model, url in sorted(served)
    }


def summary(table: RouteTable) -> dict[str, object]:
    """What a log says of routes that changed."""
    return {
        "revision": table.revision,
        "live": table.live,
        "versions": sorted(table.variants),
        "candidate": table.candidate,
        "rollout": table.rollout,
        "rollout_revision": table.rollout_revision,
    }


def table_of(
    before: RouteTable,
    variants: Mapping[int, Variant],
    *,
    live: int | None,
    routing: Routing,
    gateway: InnerGateway | None = None,
) -> RouteTable:
    """The routes that come after others; under their revision where nothing else differs.

    Args:
        before: The routes that stand.
        variants: Where versions are served, by version.
        live: The version that answers.
        routing: What a rollout asks for; left out while its candidate is not among the variants.
        gateway: Where the front end reaches variants; None where it asks them directly, or knows by itself.
    """
    tried = routing if routing.candidate in variants else Routing()
    table = RouteTable(
        use_case=before.use_case,
        revision=before.revision,
        live=live,
        variants=dict(variants),
        candidate=tried.candidate,
        rollout=tried.rollout,
        rollout_revision=tried.rollout_revision,
        shadow=tried.shadow,
        cohorts=tried.cohorts,
        weights=tried.weights,
        gateway=gateway,
    )
    return table.following(before)
