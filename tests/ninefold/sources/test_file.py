"""A file's values come back as they were written, whatever they are."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ninefold.errors import DataError
from ninefold.fields import Kind
from ninefold.sources import File
from ninefold.sources.values import NULLS, Reading, read

VALUES: dict[Kind, Any] = {
    "integer": st.integers(-(10**15) + 1, 10**15 - 1),
    "number": st.floats(allow_nan=False, allow_infinity=False),
    "boolean": st.booleans(),
    "category": st.text(
        st.characters(codec="utf-8", exclude_characters="\0\r", exclude_categories=["Cs"]), min_size=1
    ).filter(lambda text: text not in NULLS),
    "time": st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
}


@given(st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_written_is_read(tmp_path: Path, data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, 8))
    columns = {
        kind: data.draw(st.lists(st.one_of(st.none(), values), min_size=rows, max_size=rows))
        for kind, values in VALUES.items()
    }
    columns["category"][0] = columns["category"][0] or "a"
    written = pl.DataFrame(columns, schema_overrides={"boolean": pl.Boolean, "time": pl.Datetime("us", "UTC")})
    written = written.with_columns(
        pl.col("integer").cast(pl.Int64), pl.col("number").cast(pl.Float64), pl.col("category").cast(pl.String)
    )
    path = tmp_path / "table.csv"
    written.with_columns(pl.col("time").dt.to_string("iso:strict")).write_csv(path)
    source = File(path=path)
    frame = source.collect(source.scan())
    for kind in VALUES:
        values = read(frame, kind, kind, Reading(), where=source.where, first_row=source.first_row)
        assert values.to_list() == written[kind].to_list()


@pytest.mark.parametrize(
    ("text", "hour"),
    [
        ("2024-07-01", 0), ("2024-07-01 10:30", 10), ("2024-07-01T10:30:15", 10), ("2024-07-01T10:30:15.123456Z", 10),
        ("2024-07-01 10:30:15+02:00", 8), ("2024-07-01T10:30+0200", 8), ("2024-07-01 10:30:00 -0500", 15),
    ],
)  # fmt: skip
def test_times_are_read_in_every_common_form(text: str, hour: int) -> None:
    frame = pl.DataFrame({"at": [text, None]})
    values = read(frame, "at", "time", Reading(), where="x", first_row=1)
    assert values[0].hour == hour
    assert values[1] is None


def test_a_clock_time_that_was_twice_means_the_first() -> None:
    frame = pl.DataFrame({"at": ["2024-10-27 02:30"]})
    values = read(frame, "at", "time", Reading(zone="Europe/Berlin"), where="x", first_row=1)
    assert values[0] == datetime(2024, 10, 27, 0, 30, tzinfo=UTC)


def test_a_clock_time_that_never_was_is_no_time() -> None:
    frame = pl.DataFrame({"at": ["2024-03-31 01:30", "2024-03-31 02:30"]})
    with pytest.raises(Exception, match=r"column 'at', row 2: '2024-03-31 02:30' is not a time"):
        read(frame, "at", "time", Reading(zone="Europe/Berlin"), where="x", first_row=1)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("blank", [0, 1, 3])
def test_blank_lines_at_the_end_are_no_rows(tmp_path: Path, end: str, blank: int) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(f"a,b{end}1,2{end}3,{end}{end * blank}".encode())
    source = File(path=path)
    assert source.collect(source.scan()).rows() == [("1", "2"), ("3", None)]
    assert source.collect(source.scan().select(pl.len())).item() == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("\n\r\n\n", "nothing but blank lines"),
        ("a,b\r1,2\r3,4\r", "ends its lines with carriage returns alone"),
        (f'a,"b{"x" * 200_000}\n1,2\n', "the header is no CSV"),
    ],
)
def test_a_file_that_is_no_table_is_refused_in_words(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content.encode())
    with pytest.raises(DataError, match=words):
        File(path=path).names()


def test_a_first_row_may_hold_a_text_of_any_length(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(f"a,b\n1,{'x' * 200_000}\n2,y\n")
    source = File(path=path)
    assert source.collect(source.scan())["b"].str.len_chars().to_list() == [200_000, 1]


def test_a_file_of_many_rows_is_read_in_pieces(tmp_path: Path) -> None:
    """Facts of a table come from one pass that holds no column whole."""
    path = tmp_path / "large.csv"
    rows = 200_000
    pl.DataFrame({"id": range(rows), "v": [i % 97 for i in range(rows)]}).write_csv(path)
    source = File(path=path)
    found = source.collect(source.scan().select(pl.len(), pl.col("v").str.contains(r"^\d+$").sum()))
    assert found.row(0) == (rows, rows)
