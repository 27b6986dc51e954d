"""Opening a store: migrated once, refused when newer, and one clear line for every fault."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from ninefold.errors import ConfigurationError, NinefoldError, StoreError
from ninefold.records import Truth
from ninefold.store import Store, open_store
from ninefold.store.migrate import MIGRATIONS, revision
from ninefold.store.tables import SCHEMA, metadata

NOW = datetime(2013, 7, 1, tzinfo=UTC)


def _truth(number: int) -> Truth:
    return Truth(truth_id=f"t{number}", use_case="arrivals", key="k", value=1.0, known_at=NOW, received_at=NOW)


def test_an_empty_database_gets_the_newest_schema(empty_url: str) -> None:
    store = open_store(empty_url)
    assert revision(store) == SCHEMA
    assert set(store.counts().values()) == {0}
    store.close()


def test_a_connection_that_is_in_use_when_the_store_closes_ends_with_its_use(store: Store) -> None:
    with store.reading() as connection:
        driven: Any = connection.connection.driver_connection
        store.close()
        assert connection.execute(sa.select(1)).scalar() == 1
    with pytest.raises((sqlite3.ProgrammingError, psycopg.OperationalError), match="closed"):
        driven.execute("SELECT 1")


def test_migrations_end_in_the_tables_that_the_code_uses(store: Store) -> None:
    with store.reading() as connection:
        differences = compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata)
        collations = {
            row[0]
            for row in (
                connection.execute(
                    sa.text(
                        "SELECT collation_name FROM information_schema.columns WHERE table_schema = 'public' "
                        "AND column_name IN ('key', 'truth_id', 'prediction_id', 'event_id', 'use_case')"
                    )
                )
                if store.is_postgresql
                else []
            )
        }
    assert differences == []
    assert collations == ({"C"} if store.is_postgresql else set())


def test_the_schema_is_the_newest_migration_and_revisions_sort_by_age() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_current_head() == SCHEMA
    revisions = [script.revision for script in scripts.walk_revisions()]
    assert revisions == sorted(revisions, reverse=True)


def test_a_store_of_the_first_schema_keeps_its_records_and_its_baseline_stands_by_again(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from alembic import command

    upgrade = command.upgrade
    with monkeypatch.context() as patch:
        patch.setattr(command, "upgrade", lambda config, _: upgrade(config, "0001"))
        store = open_store(empty_url)
    assert revision(store) == "0001"
    for number, state in ((0, "retired"), (1, "retired"), (2, "live")):
        with store.writing() as connection:
            old = sa.text(
                "INSERT INTO models (use_case, version, digest, uri, state, created_at_us, metrics, lengths) "
                "VALUES ('arrivals', :version, :digest, '/', :state, 0, '{}', '{}')"
            )
            connection.execute(old, {"state": state, "version": number, "digest": str(number) * 64})
    store.close()
    with open_store(empty_url) as store:
        assert revision(store) == SCHEMA
        assert [version.state for version in store.versions("arrivals")] == ["registered", "retired", "live"]


def test_a_newer_schema_is_refused_and_left_alone(url: str) -> None:
    store = open_store(url)
    with store.writing() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0999'"))
    store.close()
    with pytest.raises(StoreError, match=f"has schema 0999; this Ninefold knows schemas up to {SCHEMA}"):
        open_store(url)


def test_who_may_not_migrate_is_told_to(empty_url: str) -> None:
    with pytest.raises(StoreError, match=r"has schema none.*ninefold store migrate"):
        open_store(empty_url, migrating=False)
    open_store(empty_url).close()
    open_store(empty_url, migrating=False).close()


def test_processes_that_open_it_at_once_migrate_it_once(empty_url: str) -> None:
    program = (
        "import sys; from ninefold.store import open_store; sys.stdin.readline(); "
        "store = open_store(sys.argv[1]); print(store.counts()['runs']); store.close()"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", program, empty_url],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate(timeout=60) for process in started] == [("0\n", "")] * 2


def test_one_migrates_at_a_time(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from alembic import command

    upgrade, inside, most = command.upgrade, [0], [0]

    def upgrade_slowly(*arguments: Any) -> None:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.2)
        upgrade(*arguments)
        inside[0] -= 1

    monkeypatch.setattr(command, "upgrade", upgrade_slowly)
    found: list[str | None] = []

    def opening() -> None:
        with open_store(empty_url) as store:
            found.append(revision(store))

    threads = [threading.Thread(target=opening) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (found, most) == ([SCHEMA, SCHEMA], [1])


def test_a_failed_migration_leaves_nothing(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from alembic import command

    upgrade = command.upgrade

    def upgrade_and_fail(*arguments: Any) -> None:
        upgrade(*arguments)
        raise StoreError("the machine died")

    with monkeypatch.context() as patch:
        patch.setattr(command, "upgrade", upgrade_and_fail)
        with pytest.raises(StoreError, match="the machine died"):
            open_store(empty_url)
    store = open_store(empty_url)
    assert revision(store) == SCHEMA
    store.close()


class TestFaults:
    @pytest.mark.parametrize(
        ("url", "message"),
        [
            ("mysql://root:hunter2@db/x", "can't be kept in 'mysql'"),
            ("postgresql+asyncpg://root:hunter2@db/x", "can't be kept in 'postgresql.asyncpg'"),
            ("hunter2", "URL can't be read"),
            ("postgresql://root:hunter2@db:port/x", "URL can't be read"),
            ("sqlite://", "needs a file"),
            ("sqlite:///:memory:", "needs a file"),
        ],
    )
    def test_a_url_of_another_kind(self, url: str, message: str) -> None:
        with pytest.raises(ConfigurationError, match=message) as caught:
            open_store(url)
        assert "hunter2" not in str(caught.value)

    @pytest.mark.parametrize("host", ["127.0.0.1:9", "no-such-host.invalid"])
    def test_a_postgresql_that_is_away_is_named_without_its_password(self, host: str) -> None:
        with pytest.raises(StoreError, match=f"The store {host}.*/ninefold does not answer") as caught:
            open_store(f"postgresql://ninefold:hunter2@{host}/ninefold")
        assert "hunter2" not in str(caught.value)
        assert "\n" not in str(caught.value)
        assert caught.value.http_status == 503

    @pytest.mark.postgres
    def test_a_database_that_is_not_there(self, postgresql_url: str) -> None:
        with pytest.raises(StoreError, match="does not exist"):
            open_store(postgresql_url.replace("/ninefold_", "/no_such_"))

    def test_a_locked_database_is_one_clear_line(self, tmp_path: Path) -> None:
        store = open_store(f"sqlite:///{tmp_path / 'store.db'}", busy_seconds=0.1)
        other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match=r"store\.db is locked by another process\. Try again") as caught:
            store.write_truths([_truth(0)])
        assert "\n" not in str(caught.value)
        assert list(store.truths("arrivals")) == []
        other.execute("ROLLBACK")
        assert store.write_truths([_truth(0)]) == 1
        other.close()
        store.close()

    def test_a_lock_that_is_short_is_waited_for(self, tmp_path: Path) -> None:
        store = open_store(f"sqlite:///{tmp_path / 'store.db'}")
        other = sqlite3.connect(tmp_path / "store.db", isolation_level=None, check_same_thread=False)
        other.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(0.3, lambda: other.execute("ROLLBACK"))
        timer.start()
        assert store.write_truths([_truth(0)]) == 1
        timer.join()
        other.close()
        store.close()

    def test_a_full_disk_is_one_clear_line(self, tmp_path: Path) -> None:
        """SQLite says the same of a file that has reached the pages it may have."""
        store = open_store(f"sqlite:///{tmp_path / 'store.db'}")

        @sa.event.listens_for(store.engine, "begin")
        def _bound(connection: sa.Connection) -> None:
            connection.exec_driver_sql("PRAGMA max_page_count=60")

        with pytest.raises(StoreError, match=r"The disk of the store .*store\.db is full\. Free some space"):
            store.write_truths(_truth(n) for n in range(5_000))
        assert list(store.truths("arrivals")) == []
        store.close()

    def test_a_file_that_is_no_database(self, tmp_path: Path) -> None:
        path = tmp_path / "store.db"
        path.write_bytes(b"not a database" * 400)
        with pytest.raises(StoreError, match=r"store\.db is damaged"):
            open_store(f"sqlite:///{path}")
        assert path.read_bytes() == b"not a database" * 400

    def test_a_folder_in_the_place_of_the_file(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="can't be opened"):
            open_store(f"sqlite:///{tmp_path}")

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(StoreError, match=r"The folder .*file/sub of the store can't be made: Not a directory"):
            open_store(f"sqlite:///{tmp_path / 'file' / 'sub' / 'store.db'}")

    @pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
    def test_a_file_of_somebody_else(self, tmp_path: Path) -> None:
        path = tmp_path / "store.db"
        open_store(f"sqlite:///{path}").close()
        # Another user reads the folder, and may neither read nor write the file.
        path.chmod(0o600)
        for folder in [tmp_path, *tmp_path.parents]:
            folder.chmod(folder.stat().st_mode | 0o055)
        child = os.fork()
        if child == 0:
            os.setresuid(65534, 65534, 65534)
            try:
                open_store(f"sqlite:///{path}")
            except StoreError as error:
                os._exit(0 if "can't be opened" in str(error) else 2)
            except BaseException:
                os._exit(3)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    @pytest.mark.postgres
    def test_a_server_that_drops_its_connections_is_asked_again(self, postgresql_url: str) -> None:
        store, other = open_store(postgresql_url), open_store(postgresql_url)
        store.write_truths([_truth(0)])
        with other.reading() as connection:
            connection.execute(
                sa.text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
        assert store.write_truths([_truth(1)]) == 1
        other.close()
        store.close()

    def test_what_the_store_raises_is_ninefolds(self, store: Store) -> None:
        with store.writing() as connection:
            connection.execute(sa.text("DROP TABLE truths"))
        with pytest.raises(NinefoldError, match=r"The store .* refuses"):
            store.write_truths([_truth(0)])
