"""``ninefold key`` and ``ninefold store``, as a user calls them."""

from __future__ import annotations

import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import polars as pl
import pytest
from typer.testing import CliRunner

from ninefold.commands import key, store
from ninefold.errors import (
    ConfigurationError,
    NinefoldError,
    NotFound,
    PackageError,
    StoreError,
    UnknownUseCase,
    UsageError,
)  # fmt: skip
from ninefold.keys import Keys
from ninefold.loading import load_use_case
from ninefold.online import OnlineRow, open_online_store
from ninefold.package import write_package
from ninefold.records import Event, Prediction, Truth
from ninefold.settings import settings
from ninefold.signature import PackageManifest, Signature
from ninefold.store import Run, open_store
from ninefold.store.journal import Journal


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("NINEFOLD_HOME", str(tmp_path / "home"))
    settings.cache_clear()
    yield tmp_path / "home"
    settings.cache_clear()


def _run(app: object, *arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))  # type: ignore[arg-type]
    if isinstance(result.exception, NinefoldError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def _prediction(number: int) -> bytes:
    now = datetime(2013, 7, 1, tzinfo=UTC)
    made = Prediction(
        prediction_id=f"p{number}", use_case="arrivals", request_id=None, key="k", decided_at=now, received_at=now,
        version=1, cohort="live", request={}, features={}, value=1.0,
    )  # fmt: skip
    return orjson.dumps(made.to_json())


def test_a_key_is_shown_once_works_and_is_revoked(home: Path) -> None:
    made = _run(key, "create", "shop").strip()
    _run(key, "create", "app")
    assert Keys.from_file(home / "keys.json").name_of(made.encode()) == "shop"
    assert made not in (home / "keys.json").read_text()
    assert stat.S_IMODE((home / "keys.json").stat().st_mode) == 0o600
    assert _run(key, "list").split() == ["app", "shop"]
    _run(key, "revoke", "shop")
    assert _run(key, "list").split() == ["app"]
    with pytest.raises(NotFound, match=r"no key 'shop'\. There are app"):
        _run(key, "revoke", "shop")


def test_a_broken_keys_file_is_named_and_left_alone(home: Path) -> None:
    home.mkdir()
    (home / "keys.json").write_text("{")
    for arguments in (["list"], ["create", "shop"], ["revoke", "shop"]):
        with pytest.raises(ConfigurationError, match=r"keys\.json is broken"):
            _run(key, *arguments)
    assert (home / "keys.json").read_text() == "{"


def test_there_are_no_keys_at_first() -> None:
    assert _run(key, "list") == ""


def test_the_store_is_migrated_and_shown(home: Path) -> None:
    with pytest.raises(StoreError, match="ninefold store migrate"):
        _run(store, "status")
    assert "store.db has schema" in _run(store, "migrate")
    assert "predictions" in _run(store, "status")


def test_a_journal_that_was_left_is_shipped(home: Path) -> None:
    for name in ("arrivals", "churn"):
        journal = Journal(home / "journal" / name)
        journal.append_many(_prediction(n) for n in range(3))
        journal.append(b"{")
        journal.close()
    _run(store, "migrate")
    assert "not yet in the store: 0 bytes" not in _run(store, "status")
    output = _run(store, "replay-journal")
    assert "arrivals: 3 predictions shipped, 0 were there, 1 pieces set aside" in output.replace("\n", "")
    assert "churn: 0 predictions shipped, 3 were there, 1 pieces set aside" in output.replace("\n", "")
    assert "not yet in the store: 0 bytes" in _run(store, "status")
    with open_store(settings().store_url) as opened:
        assert opened.counts()["predictions"] == 3


def test_a_journal_that_is_written_is_left_alone(home: Path) -> None:
    journal = Journal(home / "journal")
    journal.append(_prediction(0))
    with pytest.raises(StoreError, match="belongs to a process that runs"):
        _run(store, "replay-journal")
    journal.close()
    with pytest.raises(NotFound, match="no journal"):
        _run(store, "replay-journal", str(home / "nowhere"))


def test_an_error_is_one_line_and_its_exit_code(home: Path) -> None:
    (home.parent / "file").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "ninefold", "store", "migrate"],
        env={"NINEFOLD_HOME": str(home), "NINEFOLD_STORE_URL": f"sqlite:///{home.parent}/file/store.db"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("ninefold: The folder")
    assert done.stderr.count("\n") == 1


def _package(number: int, *, derive: str | None = None) -> str:
    """A package of churn that is registered as the next version; its digest."""
    churn = load_use_case("churn")
    signature = Signature(
        use_case="churn", problem="binary", inputs=(), views=(), derive_digest=derive or churn.derive_digest,
        target="leaves",
    )  # fmt: skip
    manifest = PackageManifest(format="onnx", signature=signature, statistics={}, training={"number": number})
    digest, uri = write_package(settings().models_url, manifest, {"model.onnx": b"graph"})
    with open_store(settings().store_url) as opened:
        opened.register_version("churn", digest, uri, version=0 if number == 0 else None)
        opened.set_state("churn", number, "live")
    return digest


def _states() -> dict[int, str]:
    with open_store(settings().store_url) as opened:
        return {version.version: version.state for version in opened.versions("churn")}


class TestSetLive:
    def test_an_earlier_version_goes_live_and_the_change_is_kept(self) -> None:
        for number in range(3):
            _package(number)
        assert _states() == {0: "registered", 1: "retired", 2: "live"}
        output = _run(store, "set-live", "churn", "1", "--reason", "2 calls everybody", "--by", "ann")
        assert output == "Version 1 of churn is live; version 2 was.\n"
        assert _states() == {0: "registered", 1: "live", 2: "retired"}
        with open_store(settings().store_url) as opened:
            changes = opened.version_changes("churn")[-2:]
        assert [(c.version, c.from_state, c.to_state, c.actor, c.reason) for c in changes] == [
            (2, "live", "retired", "ann", "2 calls everybody"),
            (1, "retired", "live", "ann", "2 calls everybody"),
        ]
        assert _run(store, "set-live", "churn", "0") == "Version 0 of churn is live; version 1 was.\n"
        assert _run(store, "set-live", "churn", "0") == "Version 0 of churn is live.\n"
        assert _states() == {0: "live", 1: "retired", 2: "retired"}
        _run(store, "set-live", "churn", "2")
        assert _states()[0] == "registered"

    def test_a_package_that_is_gone_or_changed_is_refused(self) -> None:
        digests = [_package(number) for number in range(3)]
        models = Path(settings().models_url)
        (models / digests[1] / "model.onnx").write_bytes(b"grapf")
        with pytest.raises(PackageError, match="is not the file that its digest names"):
            _run(store, "set-live", "churn", "1")
        shutil.rmtree(models / digests[1])
        with pytest.raises(PackageError, match="can't be read: No such file"):
            _run(store, "set-live", "churn", "1")
        assert _states() == {0: "registered", 1: "retired", 2: "live"}

    def test_what_can_not_be_served_is_refused_or_told(self) -> None:
        _run(store, "migrate")
        with pytest.raises(NotFound, match=r"churn has no version 1\. There are none\."):
            _run(store, "set-live", "churn", "1")
        _package(0)
        _package(1, derive="f" * 64)
        _package(2)
        with pytest.raises(NotFound, match=r"There are 0 \(registered\), 1 \(retired\), 2 \(live\)\."):
            _run(store, "set-live", "churn", "7")
        assert "another derive" in _run(store, "set-live", "churn", "1")
        with open_store(settings().store_url) as opened:
            opened.open_rollout("churn", incumbent=1, candidate=2, policy={}, actor="r")
        with pytest.raises(
            UsageError,
            match=r"A rollout of churn is pending: version 2 against 1\. End it first: ninefold rollout abort churn",
        ):
            _run(store, "set-live", "churn", "0")
        with pytest.raises(UnknownUseCase):
            _run(store, "set-live", "nothing", "0")


def _old(number: int, days: float, key: str = "5") -> Prediction:
    then = datetime.now(UTC) - timedelta(days=days)
    return Prediction(
        prediction_id=f"p{number}", use_case="churn", request_id=None, key=key, decided_at=then, received_at=then,
        version=1, cohort="live", request={"customer_id": int(key)}, features={}, value=0.5,
    )  # fmt: skip


class TestPrune:
    def test_what_is_past_its_age_goes_once_it_is_asked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NINEFOLD_RETENTION__PREDICTIONS_DAYS", "30")
        monkeypatch.setenv("COLUMNS", "200")
        settings.cache_clear()
        with open_store(settings().store_url) as opened:
            opened.write_predictions([_old(1, 50), _old(2, 40), _old(3, 1)])
        assert "would go" in _run(store, "prune", "--dry-run")
        with open_store(settings().store_url) as opened:
            assert opened.counts()["predictions"] == 3
        row = next(
            line for line in _run(store, "prune", "--vacuum", "--by", "ann").splitlines() if "predictions" in line
        )
        assert [cell.strip() for cell in row.split("│")[1:5]] == ["churn", "predictions", "2", "1"]
        with open_store(settings().store_url) as opened:
            assert [p.prediction_id for p in opened.predictions("churn")] == ["p3"]
            assert opened.counts()["prunings"] == 1

    def test_an_empty_home_has_nothing_to_prune(self) -> None:
        assert _run(store, "prune") == "There is nothing that could be pruned.\n"

    def test_a_clock_that_jumped_ahead_empties_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NINEFOLD_RETENTION__PREDICTIONS_DAYS", "30")
        settings.cache_clear()
        with open_store(settings().store_url) as opened:
            opened.write_predictions([_old(1, 50)])
        with pytest.raises(UsageError, match=r"all are past their age\. Check the clock; if it is right, say so"):
            _run(store, "prune")
        _run(store, "prune", "--as-of", datetime.now(UTC).isoformat())
        with open_store(settings().store_url) as opened:
            assert opened.counts()["predictions"] == 0

    def test_in_event_time_now_is_the_newest_record(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NINEFOLD_RETENTION__PREDICTIONS_DAYS", "30")
        monkeypatch.setenv("NINEFOLD_CLOCK", "event")
        settings.cache_clear()
        with open_store(settings().store_url) as opened:
            opened.write_predictions([_old(1, 5_050), _old(2, 5_010), _old(3, 5_000)])
        _run(store, "prune")
        with open_store(settings().store_url) as opened:
            assert {p.prediction_id for p in opened.predictions("churn")} == {"p2", "p3"}

    def test_events_of_a_use_case_that_is_not_here_stay(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("NINEFOLD_RETENTION__EVENTS_DAYS", "1")
        monkeypatch.setenv("COLUMNS", "200")
        settings.cache_clear()
        then = datetime.now(UTC) - timedelta(days=9)
        with open_store(settings().store_url) as opened:
            opened.write_predictions([replace(_old(1, 0), use_case="fraud")])
            opened.write_events(
                [
                    Event(
                        event_id=name, use_case=name, stream="s", happened_at=then, known_at=then, received_at=then
                    )
                    for name in ("fraud", "churn")
                ]
            )  # fmt: skip
        assert "its windows are not known: name it by import path with --use-case" in _run(store, "prune")
        with open_store(settings().store_url) as opened:
            assert opened.counts()["events"] == 1
        with pytest.raises(UnknownUseCase):
            _run(store, "prune", "--use-case", "nothing")


class TestForget:
    def test_a_customer_is_forgotten_and_what_still_holds_it_is_named(self, home: Path) -> None:
        folder = home / "journal" / "churn"
        journal = Journal(folder)
        journal.append(orjson.dumps(_old(1, 1).to_json()))
        journal.close()
        now = datetime.now(UTC)
        with open_store(settings().store_url) as opened:
            opened.write_predictions([_old(2, 2), _old(3, 2, "6")])
            opened.write_truths(
                [Truth(truth_id="t", use_case="churn", key="5", value=1.0, known_at=now, received_at=now)]
            )
        online = open_online_store(settings().online_url)
        online.write("customer", [OnlineRow(key, now, (1.0,)) for key in ("5", "6")])
        data = home / "data" / "churn"
        data.mkdir(parents=True)
        pl.DataFrame({"customer_id": [5, 6]}).write_parquet(data / "requests.parquet")
        (home / "pipelines" / "run").mkdir(parents=True)
        reference = home / "reports" / "churn" / "monitor" / "reference-0.parquet"
        reference.parent.mkdir(parents=True)
        reference.write_bytes(b"")

        planned = _run(store, "forget", "churn", "customer_id=5", "--dry-run")
        assert "predictions: 1\n" in planned
        assert pl.read_parquet(data / "requests.parquet").height == 2
        assert reference.exists()
        output = _run(store, "forget", "churn", "customer_id=5", "--by", "ann")
        for line in (
            "predictions: 2\n", "truths: 1\n", "online rows of customer: 1\n",
            "requests.parquet: written without 1 rows\n", "still holds: requests 1, truths 1, customer 1. The next",
            "NINEFOLD_RETENTION__PIPELINES_DAYS=0 ninefold store prune", "- copies and backups",
        ):  # fmt: skip
            assert line in output
        with open_store(settings().store_url) as opened:
            assert [p.key for p in opened.predictions("churn")] == ["6"]
            assert opened.counts()["erasures"] == 1
        assert [row is None for row in online.read_many([("customer", "5"), ("customer", "6")])] == [True, False]
        online.close()
        assert pl.read_parquet(data / "requests.parquet")["customer_id"].to_list() == [6]
        assert not reference.exists()
        assert not any(b'"customer_id":5' in path.read_bytes() for path in folder.glob("*.journal"))
        assert "predictions: 0\n" in _run(store, "forget", "churn", "--key", "5")
        _run(store, "replay-journal")
        with open_store(settings().store_url) as opened:
            assert opened.counts()["erasures"] == 1

    def test_an_answer_that_is_not_shipped_holds_it_up(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("ninefold.store.shipper.SHIPPED_SECONDS", 0.1)
        journal = Journal(home / "journal" / "churn")
        journal.append(orjson.dumps(_old(1, 1).to_json()))
        with pytest.raises(StoreError, match="holds answers that are not in the store yet"):
            _run(store, "forget", "churn", "--key", "5")
        journal.close()

    def test_a_run_that_goes_on_holds_it_up(self) -> None:
        with open_store(settings().store_url) as opened:
            opened.write_run(
                Run(run_id="r", pipeline="training", use_case="churn", state="running", started_at=datetime.now(UTC))
            )
        with pytest.raises(StoreError, match=r"The run r may bring the key back\. Try again when it has ended\."):
            _run(store, "forget", "churn", "--key", "5")

    def test_a_key_is_needed(self) -> None:
        with pytest.raises(UsageError, match="Give --key TEXT, or FIELD=VALUE for customer_id"):
            _run(store, "forget", "churn")
