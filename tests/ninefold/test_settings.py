"""Settings are strict, and a home means the same place wherever a child runs."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from ninefold.errors import ConfigurationError
from ninefold.settings import Settings, settings


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NINEFOLD_HOME", raising=False)
    settings.cache_clear()


def test_everything_lies_in_the_home_by_default(tmp_path: Path) -> None:
    found = Settings()
    assert found.home == tmp_path / ".ninefold"
    assert found.store_url == f"sqlite:///{tmp_path}/.ninefold/store.db"
    assert found.online_url.startswith(f"sqlite:///{tmp_path}")
    assert found.models_url == str(tmp_path / ".ninefold" / "models")


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ninefold.toml").write_text('host = "10.0.0.1"\nlog_level = "debug"\n[journal]\nfsync = true\n')
    monkeypatch.setenv("NINEFOLD_HOST", "10.0.0.2")
    found = Settings()
    assert (found.host, found.log_level, found.journal.fsync) == ("10.0.0.2", "debug", True)


def test_a_wrong_value_is_named_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NINEFOLD_PORTS__FRONT_END", "eighty")
    with pytest.raises(ConfigurationError, match=r"ports\.front_end.*eighty"):
        settings()


def test_an_unknown_name_in_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ninefold.toml").write_text("hots = 1\n")
    with pytest.raises(ConfigurationError, match="hots"):
        settings()


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        Settings().host = "0.0.0.0"  # type: ignore[misc]


def test_what_may_hold_a_password_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NINEFOLD_MONITORING__WORKSPACES_URL", "postgresql://me:hunter2@host/db")
    monkeypatch.setenv("NINEFOLD_SERVING__MODEL_KEYS", "hunter2")
    monkeypatch.setenv("NINEFOLD_LOG_LEVEL", "loud")
    with pytest.raises(ConfigurationError, match=r"loud.*workspaces_url") as told:
        settings()
    assert "hunter2" not in str(told.value)
