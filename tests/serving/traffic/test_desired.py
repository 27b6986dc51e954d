"""The plan: what is started, routed and stopped, decided from values."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from ninefold.records import ModelVersion
from serving.traffic.desired import GRACE_SECONDS, Desired, Model, Running, desired_models, plan

BASE, OLD, NEW = (Model(n, f"d{n}", f"/models/d{n}") for n in (0, 1, 2))
WANTED = Desired(live=NEW, models=frozenset({BASE, NEW}))


def version(number: int, state: str) -> ModelVersion:
    return ModelVersion(
        use_case="arrivals", version=number, digest=f"d{number}", uri=f"/models/d{number}",
        state=state, created_at=datetime(2013, 7, 1, tzinfo=UTC),  # type: ignore[arg-type]
    )  # fmt: skip


def test_live_and_baseline_are_wanted_and_nothing_else() -> None:
    versions = [version(0, "retired"), version(1, "retired"), version(2, "live"), version(3, "registered")]
    assert desired_models(versions) == WANTED


def test_the_baseline_answers_where_nothing_is_live() -> None:
    assert desired_models([version(0, "registered"), version(1, "registered")]) == Desired(BASE, frozenset({BASE}))
    assert desired_models([]) == Desired(None, frozenset())


def test_a_new_version_starts_and_the_old_one_goes_on_answering() -> None:
    steps = plan(WANTED, {BASE: Running(True), OLD: Running(True)}, OLD, 0.0)
    assert (steps.start, steps.live, steps.routed, steps.stop) == ((NEW,), OLD, {BASE, OLD}, ())
    steps = plan(WANTED, {BASE: Running(True), OLD: Running(True), NEW: Running(False)}, OLD, 1e6)
    assert (steps.start, steps.live, steps.routed, steps.stop) == ((), OLD, {BASE, OLD}, ())


def test_once_ready_it_answers_and_the_old_one_ends_after_a_grace() -> None:
    running = {BASE: Running(True), OLD: Running(True), NEW: Running(True)}
    steps = plan(WANTED, running, OLD, 5.0)
    assert (steps.live, steps.routed, steps.stop) == (NEW, {BASE, NEW}, ())
    running[OLD] = Running(True, unrouted_since=5.0)
    assert plan(WANTED, running, NEW, 5.0 + GRACE_SECONDS - 0.1).stop == ()
    assert plan(WANTED, running, NEW, 5.0 + GRACE_SECONDS).stop == (OLD,)


def test_a_new_baseline_package_takes_the_place_of_the_old_under_the_same_version() -> None:
    renewed = Model(0, "other", "/models/other")
    wanted = Desired(live=renewed, models=frozenset({renewed}))
    assert plan(wanted, {BASE: Running(True)}, BASE, 0.0).start == (renewed,)
    steps = plan(wanted, {BASE: Running(True), renewed: Running(True)}, BASE, 0.0)
    assert (steps.live, steps.routed) == (renewed, {renewed})


MODELS = st.sampled_from([Model(v, f"d{v}{d}", "/m") for v in range(3) for d in "ab"])
TIMES = st.one_of(st.none(), st.floats(0, 100))


@given(
    wanted=st.frozensets(MODELS, max_size=3),
    running=st.dictionaries(MODELS, st.builds(Running, st.booleans(), TIMES)),
    live=st.one_of(st.none(), MODELS),
    now=st.floats(0, 200),
)
def test_laws(wanted: frozenset[Model], running: dict[Model, Running], live: Model | None, now: float) -> None:
    desired = Desired(live=min(wanted, default=None), models=wanted)
    steps = plan(desired, running, live, now)
    assert steps.live is None or (steps.live in steps.routed and running[steps.live].ready)
    assert all(running[model].ready for model in steps.routed)
    assert not set(steps.stop) & (steps.routed | wanted)
    assert set(steps.start) == wanted - set(running)
    # Whatever answers and is healthy is not taken away while nothing replaces it.
    if live in running and running[live].ready:
        assert steps.live is not None
