"""The whole way of a rollout in event time: what production writes, and what the controller makes of it."""

from __future__ import annotations

from rollout_house import USE_CASE, Production

from ninefold.rollout.decide import RolloutDecision
from serving.rollout.controller import Controller


def run(production: Production, days: int, controller: Controller | None = None) -> list[RolloutDecision]:
    """Days of production with a look after each; what was decided, holds left out."""
    leading = controller or Controller(USE_CASE, production.store, clock=production.clock)
    acted = []
    for _ in range(days):
        production.day()
        decision = leading.look()
        if decision is not None and decision.action != "hold":
            acted.append(decision)
    return acted


def test_a_better_candidate_is_shadowed_canaried_and_promoted(production_on_both: Production) -> None:
    production = production_on_both
    store = production.store
    acted = run(production, 25)
    assert [decision.action for decision in acted] == ["start_shadow", "advance", "advance", "promote"]
