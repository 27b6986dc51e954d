"""What is pruned and what stays, on both databases."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from ninefold.errors import StoreError, Unavailable
from ninefold.loading import load_use_case
from ninefold.package.objects import Objects
from ninefold.records import Event, Prediction, Truth
from ninefold.settings import Retention, Settings
from ninefold.store import Measurement, Run, Store, open_store
from ninefold.store.journal import Journal, set_aside
from ninefold.store.leftovers import prune_files
from ninefold.store.pruning import Pruning, newest_instant, prune_records
from ninefold.store.retention import longest_window
from ninefold.store.tables import prunings
from tests.ninefold.package.s3 import make_bucket, s3_server

NOW = datetime(2013, 7, 31, tzinfo=UTC)
WINDOWS: Mapping[str, timedelta | None] = {"arrivals": timedelta(hours=24)}


def _ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def _prediction(name: str, days: float, key: str | None = None, *, received: float | None = None) -> Prediction:
    return Prediction(
        prediction_id=name, use_case="arrivals", request_id=None, key=key or name, decided_at=_ago(days),
        received_at=_ago(days if received is None else received), version=1, cohort="live", request={"a": 1},
        features={}, value=1.0,
    )  # fmt: skip


def _truth(key: str, days: float, value: float = 1.0) -> Truth:
    return Truth(
        truth_id=f"{key}-{days}-{value}", use_case="arrivals", key=key, value=value, known_at=_ago(days),
        received_at=_ago(days),
    )  # fmt: skip


def _event(name: str, days: float, stream: str = "landings") -> Event:
    at = _ago(days)
    return Event(event_id=name, use_case="arrivals", stream=stream, happened_at=at, known_at=at, received_at=at)


def _prune(store: Store, policy: Retention, **more: Any) -> dict[str, Pruning]:
    found = prune_records(store, policy, more.pop("windows", WINDOWS), now=NOW, actor="me", **more)
    return {part.kind: part for part in found}


def _events_left(store: Store) -> set[str]:
    return {event.event_id for event in store.events("arrivals", limit=100_000)[0]}


def _noted(store: Store) -> list[tuple[Any, ...]]:
    columns = (prunings.c.kind, prunings.c.removed, prunings.c.actor)
    with store.reading() as connection:
        return [tuple(row) for row in connection.execute(sa.select(*columns).order_by(prunings.c.kind))]


def test_without_a_policy_no_record_goes(store: Store) -> None:
    store.write_predictions([_prediction("old", 4_000)])
    store.write_truths([_truth("old", 4_000)])
    store.write_events([_event("old", 4_000)])
    assert _prune(store, Retention()) == {}
    assert store.counts()["predictions"] == store.counts()["truths"] == store.counts()["events"] == 1
    assert _noted(store) == []


def test_predictions_go_by_both_of_their_times(store: Store) -> None:
    store.write_predictions(
        [_prediction("old", 31), _prediction("edge", 30), _prediction("new", 1), _prediction("late", 90, received=1)]
    )
    done = _prune(store, Retention(predictions_days=30))
    assert {p.prediction_id for p in store.predictions("arrivals")} == {"edge", "new", "late"}
    assert (done["predictions"].removed, done["predictions"].kept, done["predictions"].cutoff) == (1, 3, _ago(30))
    assert _noted(store) == [("predictions", 1, "me")]


def test_a_dry_run_says_what_would_go_and_changes_nothing(store: Store) -> None:
    store.write_predictions(_prediction(f"p{n}", n) for n in range(60))
    store.write_truths(_truth(f"p{n}", n) for n in range(60))
    store.write_events(_event(f"e{n}", n) for n in range(60))
    policy = Retention(predictions_days=30, truths_days=20, events_days=10)
    before = store.counts()
    planned = _prune(store, policy, dry_run=True)
    assert store.counts() == before
    done = _prune(store, policy)
    assert planned == done
    assert {kind: part.removed for kind, part in done.items() if part.removed} == {
        "predictions": 29, "truths": 29, "events of landings": 28,
    }  # fmt: skip


def test_a_truth_stays_while_its_prediction_does_or_would(store: Store) -> None:
    store.write_predictions([_prediction("kept", 10, key="k"), _prediction("gone", 80, key="g")])
    store.write_truths(
        [_truth("k", 90), _truth("k", 9), _truth("g", 80), _truth("g", 79, 2.0), _truth("alone", 50), _truth("x", 70)]
    )
    done = _prune(store, Retention(predictions_days=60, truths_days=20))
    assert sorted(truth.key for truth in store.truths("arrivals")) == ["alone", "k"]
    assert len(store.truth_history("arrivals", "k")) == 2
    assert done["truths"].held_by == "the predictions' retention"
    # Where predictions stay for ever, so do their truths.
    store.write_truths([_truth("x", 70, 3.0)])
    assert _prune(store, Retention(truths_days=20))["truths"].removed == 2
    assert [truth.key for truth in store.truths("arrivals")] == ["k"]


@pytest.mark.parametrize("oldest", [5, 40])
def test_an_event_stays_while_a_window_of_a_kept_prediction_sees_it(store: Store, oldest: float) -> None:
    store.write_predictions([_prediction("p", oldest), _prediction("q", 1)])
    edge = oldest + 1
    store.write_events([_event("before", edge + 0.01), _event("inside", edge - 0.01), _event("new", 0.5)])
    done = _prune(store, Retention(events_days=2))
    assert _events_left(store) == {"inside", "new"}
    assert done["events of landings"].held_by == "the longest window of the oldest prediction that is kept"
    # And once that prediction goes, they do.
    _prune(store, Retention(events_days=2, predictions_days=3))
    assert _events_left(store) == {"new"}


def test_an_event_that_a_window_of_now_sees_stays(store: Store) -> None:
    store.write_events([_event("gone", 1.01), _event("inside", 0.99), _event("said", 0.99, "feedback")])
    done = _prune(store, Retention(events_days=0))
    assert _events_left(store) == {"inside", "said"}
    assert done["events of landings"].held_by == "the longest window"
    no_windows: Mapping[str, timedelta | None] = {"arrivals": timedelta(0)}
    _prune(store, Retention(events_days=0), windows=no_windows)
    assert _events_left(store) == set()


def test_events_of_a_use_case_that_nobody_declares_stay(store: Store) -> None:
    store.write_events([_event("old", 400)])
    done = _prune(store, Retention(events_days=1), windows={"arrivals": None})
    assert (done["events"].removed, done["events"].kept) == (0, 1)
    assert "--use-case" in done["events"].held_by


def test_the_longest_window_is_of_all_that_can_be_asked() -> None:
    arrivals = load_use_case("arrivals")
    declared = longest_window(arrivals, [])
    assert declared == max(max(window.lengths) for window in arrivals.windows)
    assert longest_window(arrivals, [{"destination_gain": "90d"}]) == timedelta(days=90)
    assert longest_window(load_use_case("churn"), []) == timedelta(0)


def test_what_an_open_rollout_is_judged_on_stays(store: Store) -> None:
    class Then:
        def now(self) -> datetime:
            return _ago(20)

    store.clock = Then()
    rollout = store.open_rollout("arrivals", incumbent=1, candidate=2, policy={}, actor="r")
    store.write_predictions([_prediction("before", 21), _prediction("since", 19)])
    done = _prune(store, Retention(predictions_days=5))
    assert {p.prediction_id for p in store.predictions("arrivals")} == {"since"}
    assert done["predictions"].held_by == "a rollout that is open"
    store.record_step(rollout.rollout_id, revision=1, actor="r", action="abort", state="rolled_back")
    _prune(store, Retention(predictions_days=5))
    assert list(store.predictions("arrivals")) == []


def test_measurements_runs_and_what_was_turned_away_go_by_age(store: Store) -> None:
    for days in (50, 5):
        store.write_metrics(
            [Measurement(use_case="arrivals", version=1, name="mae", value=1.0, at=_ago(days), window="w")]
        )
        store.write_run(
            Run(
                run_id=f"r{days}", pipeline="training", use_case="arrivals", state="succeeded",
                started_at=_ago(days), ended_at=_ago(days),
            )
        )  # fmt: skip
        store.write_run(
            Run(run_id=f"going{days}", pipeline="t", use_case="arrivals", state="running", started_at=_ago(days))
        )
    _prune(store, Retention(metrics_days=30, runs_days=30))
    assert [m.at for m in store.metrics("arrivals")] == [_ago(5)]
    assert {run.run_id for run in store.runs("arrivals")} == {"r5", "going50", "going5"}

    class Then:
        def now(self) -> datetime:
            return _ago(50)

    store.clock = Then()
    store.write_truths([_truth("k", 1)])
    assert store.write_truths([Truth(**{**_fields(_truth("k", 1)), "value": 7.0})]).conflicts
    _prune(store, Retention(truths_days=30))
    assert store.conflicts() == []


def _fields(truth: Truth) -> dict[str, Any]:
    return {name: getattr(truth, name) for name in truth.__slots__}


def test_batches_are_small_and_others_write_between_them(store: Store) -> None:
    store.write_predictions(_prediction(f"p{n:05d}", 40 + n / 1e5) for n in range(2_500))
    # All at one instant: no slice of time can part them.
    store.write_predictions(_prediction(f"q{n:05d}", 100) for n in range(700))
    sizes: list[int] = []
    sa.event.listen(store.engine, "after_cursor_execute", lambda c, cursor, *_: sizes.append(cursor.rowcount))
    waits: list[float] = []

    def others(seconds: float) -> None:
        waits.append(seconds)
        thread = threading.Thread(target=lambda: store.write_truths([_truth(f"w{len(waits)}", 1)]))
        thread.start()
        thread.join()

    done = _prune(store, Retention(predictions_days=30), batch=200, pause=others)
    assert done["predictions"].removed == 3_200
    assert max(sizes) <= 200
    assert len(waits) >= 16
    assert store.counts()["truths"] == len(waits)
    assert _noted(store) == [("predictions", 3_200, "me")]


def test_what_was_removed_before_a_death_is_recorded(store: Store) -> None:
    store.write_predictions(_prediction(f"p{n}", 40) for n in range(50))

    def dies(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _prune(store, Retention(predictions_days=30), batch=20, pause=dies)
    assert store.counts()["predictions"] == 30
    assert _noted(store) == [("predictions", 20, "me")]
    _prune(store, Retention(predictions_days=30), batch=20)
    assert sorted(row[1] for row in _noted(store)) == [20, 30]


def test_a_cursor_is_not_given_again_after_pruning(store: Store) -> None:
    store.write_events([_event("a", 50), _event("b", 40)])
    _, cursor = store.events("arrivals")
    _prune(store, Retention(events_days=1))
    store.write_events([_event("c", 0.1)])
    assert [event.event_id for event in store.events("arrivals", after_cursor=cursor)[0]] == ["c"]


def test_the_newest_instant_is_of_any_record(store: Store) -> None:
    assert newest_instant(store) is None
    store.write_predictions([_prediction("p", 3)])
    store.write_truths([_truth("p", 1)])
    store.write_events([_event("e", 2)])
    assert newest_instant(store) == _ago(1)


def test_space_is_given_back_when_asked(store: Store) -> None:
    store.write_predictions(_prediction(f"p{n}", 40) for n in range(5_000))
    store.tidy()
    path = None if store.is_postgresql else Path(store.where)
    before = path.stat().st_size if path else 0
    _prune(store, Retention(predictions_days=30))
    store.tidy(compact=True)
    if path:
        assert path.stat().st_size < before / 3
    assert store.counts()["predictions"] == 0


_DAYS = st.floats(0, 40, allow_nan=False)


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(
    decided=st.lists(_DAYS, max_size=6), happened=st.lists(_DAYS, max_size=25), known=st.lists(_DAYS, max_size=6),
    days=st.tuples(*[st.one_of(st.none(), _DAYS)] * 3), longest=st.floats(0.01, 10), batch=st.integers(1, 4),
)  # fmt: skip
def test_what_is_kept_sees_what_it_saw(
    tmp_path_factory: pytest.TempPathFactory,
    decided: list[float],
    happened: list[float],
    known: list[float],
    days: tuple[float | None, ...],
    longest: float,
    batch: int,
) -> None:
    """Of every prediction that is kept, the windows and the truths are those of before; of now, the windows."""
    length = timedelta(days=longest)
    with open_store(f"sqlite:///{tmp_path_factory.mktemp('law') / 'store.db'}") as store:
        store.write_predictions(_prediction(f"p{n}", age, key=f"k{n % 3}") for n, age in enumerate(decided))
        store.write_truths(_truth(f"k{n % 3}", age, n) for n, age in enumerate(known))
        store.write_events(_event(f"e{n}", age) for n, age in enumerate(happened))

        def seen(at: datetime) -> set[str]:
            events = store.events_known("arrivals", "landings", until=at + timedelta(microseconds=1))
            return {event.event_id for event in events if event.known_at > at - length}

        def state() -> dict[str, Any]:
            found: dict[str, Any] = {
                p.prediction_id: (seen(p.decided_at), store.truth_history("arrivals", p.key))
                for p in store.predictions("arrivals")
            }
            return {**found, "now": seen(NOW)}

        before = state()
        policy = Retention(predictions_days=days[0], truths_days=days[1], events_days=days[2])
        _prune(store, policy, windows={"arrivals": length}, batch=batch, pause=lambda _: None)
        after = state()
        assert after == {name: before[name] for name in after}
        # Nothing past its age stays without a rule that says so, and nothing younger goes.
        for age, prediction in zip(decided, (f"p{n}" for n in range(len(decided))), strict=True):
            old = days[0] is not None and _ago(age) < NOW - timedelta(days=days[0])
            assert (prediction in after) != old


class TestFiles:
    """Packages, artifacts of runs, damaged pieces. They are the same whatever database says what is needed."""

    @pytest.fixture
    def here(self, tmp_path: Path) -> Settings:
        return Settings(home=tmp_path / "home", retention=Retention(packages=2))

    def _package(self, here: Settings, letter: str, *, days: float = 0.0) -> Path:
        folder = Path(here.models_url) / (letter * 64)
        folder.mkdir(parents=True)
        (folder / "package.json").write_text("{}")
        _age(folder / "package.json", days)
        _age(folder, days)
        return folder

    def _go(self, store: Store, here: Settings, **more: Any) -> dict[str, Pruning]:
        return {part.kind: part for part in prune_files(store, here, now=datetime.now(UTC), actor="me", **more)}

    def test_packages_that_are_needed_stay(self, store: Store, here: Settings) -> None:
        letters = "0123456789"
        for number, letter in enumerate(letters):
            self._package(here, letter, days=400)
            store.register_version("arrivals", letter * 64, "/", version=number)
        for number in range(1, 9):
            store.set_state("arrivals", number, "live")
        # 0 stands by, 1–7 retired, 8 lives, 9 is a candidate; 2 is the incumbent of an open rollout.
        store.open_rollout("arrivals", incumbent=2, candidate=9, policy={}, actor="r")
        self._package(here, "a", days=400)
        self._package(here, "b", days=1)
        planned = self._go(store, here, dry_run=True)["packages"]
        assert len(list(Path(here.models_url).iterdir())) == 12
        done = self._go(store, here)["packages"]
        assert (planned.removed, planned.kept) == (done.removed, done.kept) == (5, 7)
        left = {path.name[0] for path in Path(here.models_url).iterdir()}
        assert left == set("0267") | set("89") | {"b"}
        assert _noted(store) == [("packages", 5, "me")]

    def test_a_live_package_is_never_taken_while_it_becomes_live(self, store: Store, here: Settings) -> None:
        for number in range(1, 5):
            self._package(here, str(number))
            store.register_version("arrivals", str(number) * 64, "/", version=number)
            store.set_state("arrivals", number, "live")
        entered, threads = threading.Event(), []

        def verify(_: Any) -> None:
            thread = threading.Thread(target=self._go, args=(store, here))
            thread.start()
            threads.append(thread)
            entered.set()
            time.sleep(0.3)
            assert (Path(here.models_url) / ("1" * 64)).exists()

        store.set_state("arrivals", 1, "live", checking=verify)
        threads[0].join()
        assert {path.name[0] for path in Path(here.models_url).iterdir()} == {"1", "3", "4"}

    def test_a_pruning_that_died_is_finished(self, store: Store, here: Settings) -> None:
        self._package(here, "a").rename(Path(here.models_url) / f".pruning-{'a' * 64}")
        self._go(store, here)
        assert list(Path(here.models_url).iterdir()) == []

    def test_folders_of_runs_and_the_cache_go_by_age(self, store: Store, here: Settings) -> None:
        root = here.folder("pipelines")
        for name, days in (("old", 40), ("new", 1), ("touched", 40)):
            (root / name / "step").mkdir(parents=True)
            (root / name / "step" / "snapshot").write_text("")
            _age(root / name / "step" / "snapshot", 1 if name == "touched" else days)
            _age(root / name / "step", days)
            _age(root / name, days)
        (root / "cache").mkdir()
        for name, days in (("old", 40), ("new", 1)):
            (root / "cache" / f"{name}.json").write_text("{}")
            _age(root / "cache" / f"{name}.json", days)
        now = datetime.now(UTC)
        store.write_run(Run(run_id="going", pipeline="t", use_case="arrivals", state="running", started_at=now))
        done = self._go(store, here)
        assert done["folders of runs"].held_by == "the run going goes on"
        assert len(list(root.iterdir())) == 4
        store.update_run("going", state="succeeded")
        # A run that died long ago never ended.
        long_ago = now - timedelta(days=30)
        store.write_run(Run(run_id="dead", pipeline="t", use_case="arrivals", state="running", started_at=long_ago))
        done = self._go(store, here)
        assert (done["folders of runs"].removed, done["cached steps"].removed) == (1, 1)
        assert {path.name for path in root.iterdir()} == {"new", "touched", "cache"}
        assert [path.name for path in (root / "cache").iterdir()] == ["new.json"]

    def test_damaged_pieces_go_by_age_and_segments_never(self, store: Store, here: Settings) -> None:
        folder = here.folder("journal") / "arrivals"
        journal = Journal(folder)
        journal.append(b"{}")
        journal.close()
        for offset, days in ((0, 200), (1, 10)):
            set_aside(folder, 1, offset, b"?")
            _age(folder / "damaged" / f"00000001-{offset}.bin", days)
        for path in folder.glob("*.journal"):
            _age(path, 400)
        assert self._go(store, here)["damaged pieces of journals"].removed == 1
        assert [path.name for path in (folder / "damaged").iterdir()] == ["00000001-1.bin"]
        assert list(folder.glob("*.journal"))

    def test_references_of_the_monitor_go_by_age(self, store: Store, here: Settings) -> None:
        folder = here.folder("reports") / "arrivals" / "monitor"
        folder.mkdir(parents=True)
        for name, days in (("reference-old.parquet", 40), ("reference-new.parquet", 1), ("metrics.prom", 40)):
            (folder / name).write_text("")
            _age(folder / name, days)
        assert self._go(store, here)["references of the monitor"].removed == 1
        assert {path.name for path in folder.iterdir()} == {"reference-new.parquet", "metrics.prom"}

    def test_packages_in_an_object_store_go_by_the_same_rules(
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here = Settings(home=tmp_path / "home", models_url="s3://packages/models", retention=Retention(packages=1))
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        monkeypatch.setattr("ninefold.store.unneeded_packages._AT_ONCE", 2)
        with s3_server() as endpoint:
            monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
            make_bucket(endpoint, "packages")
            objects = Objects(here.models_url)
            for number, letter in enumerate("012345"):
                objects.write({f"{letter * 64}/{name}": b"x" for name in ("model.onnx", "package.json")})
                store.register_version("arrivals", letter * 64, "/", version=number)
                if number:
                    store.set_state("arrivals", number, "live")
            # An upload that broke off, one that nobody released, and what is no package.
            objects.write(
                {f"{'a' * 64}/model.onnx": b"x", f"{'b' * 64}/package.json": b"x", "notes/package.json": b"x"}
            )
            planned = self._go(store, here, dry_run=True)["packages"]
            done = self._go(store, here)["packages"]
            assert (planned.removed, planned.kept) == (done.removed, done.kept) == (3, 5)
            assert {name[0] for name in objects.list()} == set("045ab") | {"n"}
            assert _noted(store) == [("packages", 3, "me")]
            late = datetime.now(UTC) + timedelta(days=31)
            list(prune_files(store, here, now=late, actor="me"))
            assert {name[0] for name in objects.list()} == set("045") | {"n"}
            monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
            monkeypatch.setattr("ninefold.package.objects.RETRY_FOR", timedelta(seconds=0.2))
            with pytest.raises(Unavailable, match="s3://packages/models can't be listed"):
                self._go(store, here)


def _age(path: Path, days: float) -> None:
    then = time.time() - days * 86_400
    os.utime(path, (then, then))


def test_a_store_that_refuses_says_so(store: Store) -> None:
    store.write_predictions([_prediction("p", 40)])
    with store.writing() as connection:
        connection.execute(sa.text("DROP TABLE prunings"))
    with pytest.raises(StoreError, match="refuses"):
        _prune(store, Retention(predictions_days=30))
    # A pruning that can't be recorded doesn't happen.
    assert len(list(store.predictions("arrivals"))) == 1
