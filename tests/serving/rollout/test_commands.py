"""``ninefold rollout``, as a person calls it."""

from __future__ import annotations

import getpass
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rollout_house import Production, controller, run
from typer.testing import CliRunner

from ninefold.errors import NinefoldError, NotFound, Outdated, PackageError, UsageError
from ninefold.settings import settings
from serving.rollout.commands import app

Call = Callable[..., str]


@pytest.fixture
def call(production: Production, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> Call:
    """A command on the store that production writes to, at event time."""
    monkeypatch.setenv("NINEFOLD_STORE_URL", sqlite_url)
    monkeypatch.setenv("NINEFOLD_CLOCK", "event")
    monkeypatch.setenv("COLUMNS", "200")
    settings.cache_clear()

    def called(command: str, *arguments: object) -> str:
        words = [command, "rollout_house:USE_CASE", *map(str, arguments)]
        result = CliRunner().invoke(app, words)
        if isinstance(result.exception, NinefoldError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output

    return called


def test_a_rollout_is_opened_and_the_one_that_waits_is_superseded(production: Production, call: Call) -> None:
    with pytest.raises(UsageError, match="In event time the newest record says what time it is"):
        call("start", 3)
    production.day()
    out = call("start", 3, "--reason", "smaller", "--mode", "ab")
    kept = production.rollout
    assert f"Rollout {kept.rollout_id} of parcels is open: version 3 against 1." in out
    assert "Version 2, which waited, is superseded." in out
    assert (kept.candidate, kept.policy["mode"], kept.reason) == (3, "ab", "smaller")
    assert production.store.steps(kept.rollout_id)[0].actor == getpass.getuser()
    assert "is pending already" in call("start", 3)


def test_one_is_opened_behind_one_that_goes_on(production: Production, call: Call) -> None:
    run(production, 2)
    assert "waits until the rollout of version 2, which is shadow, has ended" in call("start", 3, "--by", "ada")
    assert production.rollout.opened_at <= production.clock.now()
    assert production.store.steps(production.rollout.rollout_id)[0].actor == "ada"


def test_what_can_not_be_started_says_what_can(production: Production, call: Call) -> None:
    with pytest.raises(NotFound, match=r"no version 9\. Registered are 2, 3; ninefold run training makes one"):
        call("start", 9)
    with pytest.raises(UsageError, match=r"Version 1 of parcels is live: .* Registered are 2, 3"):
        call("start", 1)
    production.day()
    call("start", 3)
    with pytest.raises(UsageError, match=r"retired: version 3 is newer\. Registered are 3\. .* set-live parcels 2"):
        call("start", 2)


def test_a_package_that_is_damaged_opens_nothing(production: Production, call: Call) -> None:
    version = production.store.version("parcels", 3)
    assert version is not None
    (Path(version.uri) / "model.onnx").write_bytes(b"another")
    with pytest.raises(PackageError, match="is not the file that its digest names"):
        call("start", 3)
    assert production.rollout.candidate == 2


def test_pause_holds_and_resume_goes_on_where_it_stood(production: Production, call: Call) -> None:
    leading = controller(production)
    run(production, 2, leading)
    assert "is paused." in call("pause", "--reason", "holidays")
    assert run(production, 10, leading) == []
    assert "paused, paused in shadow, since 2024-01-02" in call("status")
    assert "It waits: The rollout is paused in shadow." in call("status")
    call("resume")
    assert [d.action for d in run(production, 1, leading)] == ["advance"]
    assert production.history[2:4] == [("pause", "paused"), ("resume", "shadow")]
    with pytest.raises(UsageError, match="is canary: resume is for paused"):
        call("resume")


def test_a_paused_rollout_is_still_ended_by_a_guardrail(production: Production, call: Call) -> None:
    leading = controller(production)
    run(production, 2, leading)
    call("pause")
    production.failing[2] = "model_error"
    assert [d.action for d in run(production, 1, leading)] == ["rollback"]


def test_abort_ends_it_with_who_and_why(production: Production, call: Call) -> None:
    run(production, 3)
    out = call("abort", "--reason", "the vendor changed a field")
    assert "is rolled_back: version 1 stays." in out
    assert (production.rollout.state, production.rollout.reason) == ("rolled_back", "the vendor changed a field")
    step = production.store.steps(production.rollout.rollout_id)[-1]
    assert (step.actor, step.action) == (getpass.getuser(), "abort")
    assert production.store.version("parcels", 2).state == "retired"  # type: ignore[union-attr]
    with pytest.raises(UsageError, match=r"No rollout of parcels is open\. Open one with: ninefold rollout start"):
        call("pause")
    assert "ended rolled_back: the vendor changed a field" in call("status")
    with pytest.raises(UsageError, match="abort needs a reason"):
        call("abort", "--reason", " ")


@pytest.mark.parametrize("days", [0, 2, 9])
def test_promote_by_hand_from_wherever_it_stands(production: Production, call: Call, days: int) -> None:
    run(production, days)
    assert "version 2 is live" in call("promote", "--reason", "it can't wait")
    assert (production.live, production.rollout.state) == (2, "promoted")
    change = production.store.version_changes("parcels")[-1]
    assert (change.version, change.to_state, change.actor, change.reason) == (
        2,
        "live",
        getpass.getuser(),
        "it can't wait",
    )


def test_promote_by_hand_takes_the_place_of_whatever_is_live(production: Production, call: Call) -> None:
    production.store.set_state("parcels", 3, "live")
    call("promote", "--reason", "better")
    assert (production.live, production.rollout.incumbent) == (2, 3)


def test_a_command_that_comes_too_late_is_refused(
    production: Production, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    from serving.rollout import controller as module

    read = module.standing

    def slow(*arguments: object) -> object:
        found = read(*arguments)  # type: ignore[arg-type]
        production.store.record_step(
            production.rollout.rollout_id, revision=1, actor="controller", action="start_shadow", state="shadow"
        )
        return found

    monkeypatch.setattr(module, "standing", slow)
    with pytest.raises(Outdated, match="stands at revision 2"):
        call("abort", "--reason", "late")
    assert production.rollout.state == "shadow"


def test_status_says_what_a_pending_one_waits_for(production: Production, call: Call) -> None:
    out = call("status")
    assert "pending, since 2024-01-01" in out
    assert "It waits: The front end at http://127.0.0.1:" in out
    document = json.loads(call("status", "--json"))
    assert document["rollout"]["next"]["action"] == "hold"
    assert document["rollout"]["reasons"][0]["name"] == "obstacle"
    assert document["rollout"]["front_end"] is None


def test_status_shows_the_evidence(production: Production, call: Call) -> None:
    run(production, 9)
    out = call("status")
    assert "canary, step 1 of 2" in out
    assert "version 2, against version 1" in out
    assert "20.00% configured" in out
    assert "counted, 0 waiting, 0 lapsed" in out
    assert "better; " not in out
    for name in ("harm", "errors", "latency", "fallbacks", "null_share", "coverage"):
        assert name in out
    assert "It waits: The step at 20% has lasted 0 of 2 blocks." in out
    document = json.loads(call("status", "--json"))["rollout"]
    assert document["share"]["configured"] == 0.2
    assert 0.1 < document["share"]["observed"] < 0.3
    assert document["blocks"]["counted"] == document["numbers"]["blocks"] > 6
    assert document["losses"]["loss"] == "mae"
    assert document["losses"]["candidate"] < document["losses"]["incumbent"]
    # It only looks.
    assert production.rollout.state == "canary"
    assert [s.action for s in production.store.steps(production.rollout.rollout_id)].count("advance") == 1


def test_status_tells_what_the_next_look_does(production: Production, call: Call) -> None:
    leading = controller(production)
    run(production, 2, leading)
    production.failing[2] = "model_error"
    production.day()
    assert "The next look rolls back: " in call("status")
    production.store.set_state("parcels", 3, "live")
    assert "Version 3 went live in place of 1" in call("status")


def test_history_of_all_and_of_one(production: Production, call: Call) -> None:
    run(production, 2)
    call("abort", "--reason", "no [red] lights")
    call("start", 3)
    out = call("history")
    assert out.index("pending") < out.index("rolled_back")
    assert "no [red] lights" in out
    first = production.store.rollouts("parcels")[-1]
    listed = json.loads(call("history", "--json"))
    assert [(r["candidate"], r["state"]) for r in listed] == [(3, "pending"), (2, "rolled_back")]
    one = call("history", "--rollout", first.rollout_id[:10])
    assert "pending → shadow" in one
    assert "shadow → rolled_back" in one
    document = json.loads(call("history", "--rollout", first.rollout_id, "--json"))
    assert [entry["action"] for entry in document["history"]][-1] == "abort"
    assert document["history"][1]["numbers"]["looked_at"][0]["name"] == "state"
    with pytest.raises(NotFound, match="no rollout 'zzz'"):
        call("history", "--rollout", "zzz")


def test_a_rollout_that_never_was(call: Call, production: Production) -> None:
    production.store.record_step(
        production.rollout.rollout_id, revision=1, actor="t", action="abort", state="rolled_back", reasons=["over"]
    )
    assert "No rollout of parcels is open; version 1 is live." in call("status")
    assert json.loads(call("status", "--json"))["rollout"] is None
