"""``ninefold key`` and ``ninefold store``, as a user calls them."""

from __future__ import annotations

import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from ninefold.commands import key, store
from ninefold.errors import ConfigurationError, NinefoldError, NotFound, StoreError
from ninefold.keys import Keys
from ninefold.records import Prediction
from ninefold.settings import settings
from ninefold.store import open_store
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
