"""A PostgreSQL for tests: a given one, else a cluster of one's own that lives as long as the session."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

GIVEN = "NINEFOLD_TEST_POSTGRES_URL"
_CREATE = sql.SQL("CREATE DATABASE {} TEMPLATE {}")


@dataclass(frozen=True)
class PostgreSQL:
    """A server that may make databases.

    Args:
        url: URL of a database on it, ``postgresql://…``.
        skip: Why there is no server; empty where there is one.
        stop: Kills it, as a crash would.
        start: Starts it again.
    """

    url: str = ""
    skip: str = ""
    stop: Callable[[], None] | None = None
    start: Callable[[], None] | None = None

    def new_database(self, like: str = "") -> str:
        """Makes a database, empty or as the one behind the URL ``like``, which nobody may be connected to; its URL."""
        template = _name(like) if like else "template0"
        name = f"ninefold_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(_CREATE.format(sql.Identifier(name), sql.Identifier(template)))
        base, _, query = self.url.partition("?")
        return f"{base.rsplit('/', 1)[0]}/{name}" + (f"?{query}" if query else "")

    def drop_database(self, url: str) -> None:
        """Removes a database of ``new_database``, whoever is still connected."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(_name(url))))


def _name(url: str) -> str:
    return url.partition("?")[0].rsplit("/", 1)[1]


@contextmanager
def running(*, own: bool = False) -> Iterator[PostgreSQL]:
    """The server of this session: ``NINEFOLD_TEST_POSTGRES_URL``, else a temporary cluster, else none with a reason.

    Args:
        own: One that may be stopped, and that keeps what it acknowledged when it is killed.
    """
    if (given := os.environ.get(GIVEN)) and not own:
        yield PostgreSQL(url=given)
        return
    initdb, pg_ctl = _program("initdb"), _program("pg_ctl")
    if initdb is None or pg_ctl is None:
        yield PostgreSQL(skip=f"no PostgreSQL: neither {GIVEN} nor initdb; apt-get install postgresql")
        return
    user = _unprivileged()
    if user is None:
        yield PostgreSQL(skip="no PostgreSQL: it refuses to run as root, and there is no user postgres or nobody")
        return
    # A short path: a socket's name may have 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="nfpg", dir="/tmp"))
    if os.geteuid() == 0:
        shutil.chown(folder, user)
    data, log = folder / "data", folder / "log"
    try:
        _run(user, folder, initdb, "-D", data, "-U", "ninefold", "-A", "trust", "-E", "UTF8", "--no-sync")
        options = (
            f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off "
            f"-c synchronous_commit={'on' if own else 'off'} "
            "-c full_page_writes=off -c max_connections=40 -c shared_buffers=32MB"
        )

        def start() -> None:
            _run(user, folder, pg_ctl, "-D", data, "-l", log, "-w", "-o", options, "start")

        def stop() -> None:
            _run(user, folder, pg_ctl, "-D", data, "-m", "immediate", "-w", "stop")

        start()
        try:
            yield PostgreSQL(url=f"postgresql://ninefold@/postgres?host={folder}", stop=stop, start=start)
        finally:
            stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _program(name: str) -> Path | None:
    """On the path, else the newest of Debian's, which are not on it."""
    if found := shutil.which(name):
        return Path(found)
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda p: float(p.parts[-3]))
    return versions[-1] if versions else None


def _unprivileged() -> str | None:
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid()).pw_name
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    return None


def _run(user: str, folder: Path, *command: str | Path) -> None:
    account = pwd.getpwnam(user)
    as_user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    # Into a file: the server inherits it, and a pipe would stay open as long as the server lives.
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=folder,
            env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=60,
            check=False,
            **as_user,
        )
        if done.returncode != 0:
            output.seek(0)
            raise RuntimeError(f"{command[0]} failed: {output.read().decode(errors='replace')}")
