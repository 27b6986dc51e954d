"""A release is idempotent, verified byte by byte, and opens one rollout; the first model goes live at once."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from components.releaser.outcome import Released, words
from components.releaser.release import Made, read_made, release_baseline, release_candidate
from ninefold.errors import PackageError
from ninefold.fields import Input
from ninefold.package import write_package
from ninefold.records import ModelVersion
from ninefold.rollout.policy import RolloutPolicy
from ninefold.settings import settings
from ninefold.signature import InputStatistics, PackageManifest, Signature
from ninefold.store import Store, open_store
from ninefold.store.tables import rollout_steps, rollouts


@pytest.fixture
def store() -> Iterator[Store]:
    opened = open_store(settings().store_url)
    yield opened
    opened.close()


def _package(folder: Path, mark: str) -> Made:
    signature = Signature(
        use_case="arrivals", problem="regression", inputs=(Input(name="x"),), views=(), derive_digest="d", target="y"
    )
    manifest = PackageManifest(
        format="onnx", signature=signature, statistics={"x": InputStatistics(null_share=0.0)}, training={"mark": mark}
    )
    digest, _ = write_package(str(folder), manifest, {"model.onnx": mark.encode()})
    return read_made(str(folder), digest)


Release = Callable[..., Released]


@pytest.fixture
def release(store: Store, tmp_path: Path) -> Release:
    """Releases the candidate of a name, after the baseline."""

    def made(mark: str, compared_with: int | None = 0, **policy: Any) -> Released:
        models = str(tmp_path / "models")
        release_baseline("arrivals", _package(tmp_path / "made", "baseline"), store=store, models_url=models)
        return release_candidate(
            "arrivals",
            _package(tmp_path / "made", mark),
            metrics={"mae": 1.0},
            policy=RolloutPolicy(**policy),
            compared_with=compared_with,
            reason="Release: all 9 checks passed.",
            store=store,
            models_url=models,
        )

    return made


def _states(store: Store) -> dict[int, str]:
    return {v.version: v.state for v in store.versions("arrivals")}


def _start(store: Store, rollout: Released) -> None:
    assert rollout.rollout is not None
    store.record_step(rollout.rollout.rollout_id, revision=1, actor="controller", action="start_shadow", state="shadow")


def _end(store: Store, state: Any, **more: Any) -> None:
    going = store.rollout("arrivals")
    assert going is not None
    store.record_step(
        going.rollout_id, revision=going.revision, actor="x", action="end", state=state, reasons=("worse.",), **more
    )


def test_the_first_model_goes_live_and_each_after_it_opens_a_rollout(store: Store, release: Release) -> None:
    first = release("one")
    assert (first.version, first.outcome, first.rollout) == (1, "live", None)
    assert _states(store) == {0: "registered", 1: "live"}
    assert words(first, "arrivals") == ["Version 1 of arrivals is live."]
    assert store.version_changes("arrivals")[-1].actor == "release"
    second = release("two", compared_with=1, minimum_blocks=20)
    assert (second.version, second.outcome, second.unmet) == (2, "opened", None)
    assert _states(store) == {0: "registered", 1: "live", 2: "registered"}
    kept = store.rollout("arrivals")
    assert kept is not None
    assert (kept.incumbent, kept.candidate, kept.state) == (1, 2, "pending")
    assert RolloutPolicy.from_json(kept.policy) == RolloutPolicy(minimum_blocks=20)
    assert store.steps(kept.rollout_id)[0].actor == "release"
    assert kept.reason == "Release: all 9 checks passed."
    assert words(second, "arrivals") == [
        "Version 2 of arrivals opened a rollout: it is asked beside version 1, and nobody gets its answers until they "
        "are shown to be better.",
        'See: ninefold rollout status arrivals; at once: ninefold rollout promote arrivals --reason "…"',
    ]


def test_where_the_policy_wants_it_the_first_model_opens_a_rollout_too(store: Store, release: Release) -> None:
    first = release("one", compared_with=None, first_release="rollout", mode="ab", ab_share=0.3)
    assert _states(store) == {0: "live", 1: "registered"}
    assert first.to_json() == {
        "id": first.rollout.rollout_id if first.rollout else "",
        "state": "pending",
        "candidate": 1,
        "incumbent": 0,
        "waits_for": None,
        "superseded": None,
    }
    assert "in an A/B test it answers 30% of the audience, version 0 the others." in words(first, "arrivals")[0]
    # Two candidates never stand against the baseline at once, not even by the other policy.
    assert release("two").outcome == "opened"
    assert _states(store)[0] == "live"


def test_what_waits_gives_way_to_what_is_newer_and_what_goes_on_stays(store: Store, release: Release) -> None:
    release("one")
    _start(store, release("two", compared_with=1))
    third = release("three", compared_with=1)
    assert third.ahead is not None
    assert (third.outcome, third.ahead.candidate, third.superseded) == ("opened", 2, None)
    fourth = release("four", compared_with=1)
    assert fourth.superseded == 3
    document = fourth.to_json()
    assert document is not None
    assert (document["waits_for"], document["superseded"]) == (2, 3)
    assert words(fourth, "team.flights:ARRIVALS") == [
        "Version 4 of team.flights waits for its rollout: one goes on at a time, and that of version 2 is shadow.",
        "Version 3, which waited, gave way to it.",
        "See: ninefold rollout status team.flights:ARRIVALS",
    ]
    states = {r.candidate: r.state for r in store.rollouts("arrivals")}
    assert states == {2: "shadow", 3: "superseded", 4: "pending"}
    assert release("four").outcome == "known_open"
    assert {r.candidate: r.state for r in store.rollouts("arrivals")} == states


def test_releasing_the_same_package_again_changes_nothing(store: Store, release: Release) -> None:
    release("one")
    assert release("one").outcome == "known_live"
    second = release("two")
    again = release("two")
    assert (again.version, again.outcome) == (2, "known_open")
    assert again.rollout == second.rollout
    assert [r.candidate for r in store.rollouts("arrivals")] == [2]
    assert again.to_json() == second.to_json()


def test_a_release_that_broke_off_before_its_rollout_opens_it_the_next_time(store: Store, release: Release) -> None:
    release("one")
    second = release("two")
    assert second.rollout is not None
    with store.writing() as connection:
        for table in (rollout_steps, rollouts):
            connection.execute(table.delete())
    again = release("two")
    assert again.outcome == "opened"
    assert again.rollout is not None
    assert again.rollout.rollout_id == second.rollout.rollout_id


def test_a_package_that_was_judged_is_not_tried_again_by_itself(store: Store, release: Release) -> None:
    release("one")
    _start(store, release("two"))
    _end(store, "rolled_back")
    before = _states(store)
    again = release("two")
    assert again.outcome == "known_ended"
    assert again.to_json() is None
    assert words(again, "arrivals") == [
        "This package is version 2 of arrivals, whose rollout is over, rolled back: worse.",
        "Nothing changes. To make it live all the same: ninefold store set-live arrivals 2",
    ]
    assert _states(store) == before
    assert store.rollout("arrivals") is None


def test_a_package_that_was_live_and_is_retired_is_not_made_live_again(store: Store, release: Release) -> None:
    release("one")
    _start(store, release("two"))
    _end(store, "promoted", live=2)
    assert _states(store) == {0: "registered", 1: "retired", 2: "live"}
    again = release("one")
    assert (again.outcome, store.rollout("arrivals")) == ("known_retired", None)
    assert words(again, "arrivals")[-1] == "To make it live again: ninefold store set-live arrivals 1"
    # Promoted, then replaced by hand: neither its rollout nor its state calls it back.
    store.set_state("arrivals", 0, "live")
    assert release("two").outcome == "known_retired"
    assert _states(store)[0] == "live"


def test_a_live_version_that_the_gate_has_not_seen_is_named(store: Store, release: Release) -> None:
    release("one")
    _start(store, release("two"))
    _end(store, "promoted", live=2)
    third = release("three", compared_with=1)
    assert third.unmet == 2
    assert "Its gate did not compare it with version 2, which went live since." in words(third, "arrivals")


def test_a_live_version_that_cant_be_served_any_more_is_replaced_at_once(
    store: Store, release: Release, tmp_path: Path
) -> None:
    release("one")
    replacing = release_candidate(
        "arrivals",
        _package(tmp_path / "made", "two"),
        metrics={},
        policy=RolloutPolicy(),
        compared_with=None,
        unserved=1,
        reason="",
        store=store,
        models_url=str(tmp_path / "models"),
    )
    assert replacing.outcome == "live"
    assert _states(store) == {0: "registered", 1: "retired", 2: "live"}


def test_the_baseline_does_not_take_the_place_of_a_live_model(store: Store, release: Release, tmp_path: Path) -> None:
    release("one")
    models = str(tmp_path / "models")
    release_baseline("arrivals", _package(tmp_path / "m", "other baseline"), store=store, models_url=models)
    assert _states(store) == {0: "registered", 1: "live"}
    assert {path.name for path in (tmp_path / "models").iterdir()} > {v.digest for v in store.versions("arrivals")}


def test_a_changed_baseline_is_registered_before_its_server_is_replaced(
    store: Store, release: Release, tmp_path: Path
) -> None:
    """Who keeps servers running goes by the store: a server that it does not know would be replaced at once."""
    release("one")
    known: list[bool] = []

    def deploy(version: ModelVersion) -> None:
        kept = store.version("arrivals", version.version)
        known.append(kept is not None and kept.digest == version.digest)

    package = _package(tmp_path / "m", "other baseline")
    release_baseline("arrivals", package, store=store, models_url=str(tmp_path / "models"), deploy=deploy)
    assert known == [True]


def test_a_package_with_one_byte_changed_is_not_released(store: Store, tmp_path: Path) -> None:
    made = _package(tmp_path / "made", "one")
    content = bytearray((made.folder / "model.onnx").read_bytes())
    content[0] ^= 1
    (made.folder / "model.onnx").write_bytes(content)
    with pytest.raises(PackageError, match=r"model\.onnx"):
        release_candidate(
            "arrivals",
            made,
            metrics={},
            policy=RolloutPolicy(),
            compared_with=None,
            reason="",
            store=store,
            models_url=str(tmp_path / "models"),
        )
    assert store.versions("arrivals") == []
    assert not (tmp_path / "models").exists()
