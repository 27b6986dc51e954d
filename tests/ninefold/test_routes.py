"""A route table is replaced whole; a damaged one is an error, a missing one is none."""

from pathlib import Path

import pytest

from ninefold.errors import DataError
from ninefold.routes import RouteTable, Variant, read_routes, write_routes

TABLE = RouteTable(
    use_case="arrivals",
    revision=4,
    live=1,
    variants={1: Variant(version=1, url="http://127.0.0.1:8090", package="/models/abc", digest="abc")},
)


def test_a_table_survives_its_file(tmp_path: Path) -> None:
    write_routes(tmp_path / "gateway" / "arrivals.json", TABLE)
    assert read_routes(tmp_path / "gateway" / "arrivals.json") == TABLE
    assert [p.name for p in (tmp_path / "gateway").iterdir()] == ["arrivals.json"]


def test_no_file_is_no_table(tmp_path: Path) -> None:
    assert read_routes(tmp_path / "arrivals.json") is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"use_case": "a", "revision": 1, "live": 3, "variants": []}'])
def test_a_damaged_file_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "arrivals.json").write_text(text)
    with pytest.raises(DataError):
        read_routes(tmp_path / "arrivals.json")
