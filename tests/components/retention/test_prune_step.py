"""A retention run removes what is past its age, is not in its own way, and doubts a clock that jumped ahead."""

import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from components.retention.steps import ACTOR, prune_step
from ninefold.clock import format_instant
from ninefold.errors import UsageError
from ninefold.records import Truth
from ninefold.settings import settings
from ninefold.store import Run, open_store

OLD = datetime(2013, 1, 1, tzinfo=UTC)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NINEFOLD_RETENTION__TRUTHS_DAYS", "30")
    settings.cache_clear()
    with open_store(settings().store_url) as opened:
        yield opened


def _truth(key: str, at: datetime) -> Truth:
    return Truth(truth_id=key, use_case="churn", key=key, value=1.0, known_at=at, received_at=at)


def test_what_is_past_its_age_goes_and_the_run_says_so(store, tmp_path: Path) -> None:
    now = store.clock.now()
    store.write_truths([_truth("old", OLD), _truth("new", now)])
    numbers = prune_step("churn", "", "r", str(tmp_path / "summary.md"))
    assert numbers["went"] == 1
    assert store.counts()["truths"] == 1
    result = json.loads((settings().home / "reports" / "churn" / "r" / "result.json").read_text())
    assert ["churn", "truths", "1", "1"] in [row[:4] for row in result["rows"]]
    assert "| churn | truths | 1 | 1 |" in (tmp_path / "summary.md").read_text()
    assert ACTOR == "retention"


def test_a_run_that_goes_on_keeps_artifacts_and_the_one_that_prunes_does_not(store, tmp_path: Path) -> None:
    folder = settings().folder("pipelines") / "long-ago"
    folder.mkdir()
    os.utime(folder, (time.time() - 90 * 86400,) * 2)
    store.write_run(
        Run(run_id="r", pipeline="retention", use_case="churn", state="running", started_at=store.clock.now())
    )
    prune_step("churn", "", "", str(tmp_path / "summary.md"))
    assert folder.exists()
    prune_step("churn", "", "r", str(tmp_path / "summary.md"))
    assert not folder.exists()


def test_a_due_instant_far_ahead_of_all_records_is_doubted(store, tmp_path: Path) -> None:
    """A schedule tells its instant by a clock that may be wrong; only a person can stand by it."""
    store.write_truths([_truth("new", store.clock.now())])
    ahead = format_instant(store.clock.now() + timedelta(days=365))
    with pytest.raises(UsageError, match="past their age"):
        prune_step("churn", ahead, "", str(tmp_path / "summary.md"))
    assert store.counts()["truths"] == 1
