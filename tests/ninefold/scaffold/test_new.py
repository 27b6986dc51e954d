"""`ninefold new`: what it writes works and can be read; what the data forbid is refused by column, row and value."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import polars as pl
import psycopg
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from ninefold.dataset import to_numpy
from ninefold.errors import DataError, NinefoldError, UsageError
from ninefold.loading import load_object, load_use_case
from ninefold.settings import settings
from ninefold.splits import HashSplit, TimeSplit
from ninefold.store.erased_files import erase_from_parquet
from ninefold.store.erasure import key_of
from ninefold.usecase import History, UseCase

ROOT = Path(__file__).parents[3]
Make = Callable[..., UseCase]
CUSTOMERS = {"key": "id", "time": "none", "target": "left", "kind": "binary", "truth_delay": "30d"}


def extracted(use_case: UseCase) -> History:
    history: History = load_object(use_case.extract)()
    return history


def customers(rows: int = 400, **more: list[Any]) -> pl.DataFrame:
    random = np.random.default_rng(2)
    plan = random.choice(["basic", "plus"], rows)
    left = random.random(rows) < np.where(plan == "basic", 0.4, 0.1)
    age = random.integers(18, 80, rows)
    return pl.DataFrame(
        {"id": range(1, rows + 1), "plan": plan, "age": age, "left": np.where(left, "Yes", "No"), **more}
    )


def with_cell(table: pl.DataFrame, column: str, row: int, value: str) -> pl.DataFrame:
    """The table with another value in a row of the file (the header is row 1)."""
    texts = table.with_columns(pl.col(column).cast(pl.String))
    return texts.with_columns(
        pl.when(pl.int_range(pl.len()) == row - 2).then(pl.lit(value)).otherwise(column).alias(column)
    )


def test_a_table_with_times_becomes_a_use_case_that_is_divided_by_time(make: Make, project: Path) -> None:
    use_case = make()
    assert use_case.problem == "regression"
    assert {f.name: f.kind for f in use_case.request} == {
        "parcel": "category", "handed_in_at": "time", "depot_name": "category", "weight": "number",
        "express": "boolean", "insured": "category",
    }  # fmt: skip
    assert [f.name for f in use_case.request if f.nullable] == ["insured"]
    assert use_case.decided_at == "handed_in_at"
    assert use_case.truth_delay == timedelta(days=3)
    # Nobody adds to a table of the past, so it says where it ends.
    assert isinstance(use_case.split, TimeSplit)
    assert use_case.split.until == "2024-05-02T12:30:01Z"
    assert [i.name for i in use_case.inputs][-2:] == ["weekday", "hour"]
    history = extracted(use_case)
    assert history.requests.height == history.truths.height == 600
    assert history.truths["known_at"][0] - history.requests["handed_in_at"][0] == timedelta(days=3)
    assert set(history.requests.columns) == {f.name for f in use_case.request}


def test_a_table_without_times_becomes_one_that_is_divided_by_its_key(make: Make) -> None:
    use_case = make(customers(), **CUSTOMERS)
    assert use_case.problem == "binary"
    assert isinstance(use_case.split, HashSplit)
    assert use_case.metric.name == "auc"
    truths = extracted(use_case).truths
    assert truths["truth"].sum() == (customers()["left"] == "Yes").sum()


def test_what_it_says_answers_rows_as_a_model_server_asks_and_also_with_nulls(make: Make) -> None:
    use_case = make()
    requests = extracted(use_case).requests.head(50)
    columns: dict[str, Any] = {f.name: to_numpy(requests[f.name]) for f in use_case.request}
    inputs = use_case.inputs_of(columns)
    assert {i.name for i in use_case.inputs} == set(inputs)
    days = requests["handed_in_at"].dt.weekday().to_numpy() - 1.0
    assert np.array_equal(inputs["weekday"], days)
    assert np.allclose(inputs["hour"], requests["handed_in_at"].dt.hour().to_numpy() + 0.5)
    guess = use_case.baseline(inputs)
    # The depot says most of what one category can: the west is eight hours slower.
    west = columns["depot_name"] == "west"
    assert guess[west].min() > guess[~west].max() + 4
    nothing = {
        i.name: np.full(3, np.nan) if i.kind == "number" else np.full(3, None, dtype=object) for i in use_case.inputs
    }
    assert np.isfinite(use_case.baseline(nothing)).all()
    assert len(set(use_case.block(columns))) == 10
    request = {f.name: f.check(f.example) for f in use_case.request}
    assert use_case.decide(request, 1e9) == {"above_usual": True}
    assert {i.group for i in use_case.inputs} == set(use_case.explain)


def test_the_folder_is_short_and_laid_out_as_the_house_lays_out_code(make: Make, project: Path) -> None:
    make()
    make(customers(), name="customers", **CUSTOMERS)
    for folder in (project / "usecases").iterdir():
        files = sorted(path.name for path in folder.iterdir())
        assert files == ["README.md", "__init__.py", "contract.py", "etl.py"]
        assert sum(len(path.read_text().splitlines()) for path in folder.glob("*.py")) <= 120
    ruff = [sys.executable, "-m", "ruff"]
    house = ["--config", str(ROOT / "pyproject.toml"), "--no-cache"]
    # Whether usecases is first-party depends on the project that the folder stands in.
    for command in (["check", "--ignore", "I001"], ["format", "--check"]):
        ran = subprocess.run([*ruff, *command, *house, "usecases"], cwd=project, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout


def test_another_process_finds_it_from_any_folder_by_the_setting_alone(make: Make, tmp_path_factory: Any) -> None:
    make()
    code = (
        "import sys; from ninefold.loading import load_use_case, known_use_cases, load_object; "
        "print(load_use_case('parcels').title, 'parcels' in known_use_cases(), 'polars' in sys.modules); "
        "print(load_object('usecases.parcels.contract:baseline').__name__)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path_factory.mktemp("elsewhere"), capture_output=True, text=True
    )
    assert ran.stdout.splitlines() == ["What will hours be? True False", "baseline"], ran.stderr


def test_a_file_of_the_project_is_named_by_its_place_in_it_and_another_by_its_path(
    make: Make, project: Path, tmp_path_factory: pytest.TempPathFactory, parcels: pl.DataFrame
) -> None:
    make()
    assert 'Path(__file__).parents[2] / "parcels.csv"' in (project / "usecases/parcels/etl.py").read_text()
    other = tmp_path_factory.mktemp("data") / "parcels.parquet"
    parcels.with_columns(pl.col("handed_in_at").str.to_datetime(time_zone="UTC")).write_parquet(other)
    use_case = make(name="more", file=other)
    assert f'Path("{other}")' in (project / "usecases/more/etl.py").read_text()
    assert extracted(use_case).requests.height == 600


def test_a_source_that_changes_says_so_and_what_breaks_the_contract_later_is_named(
    make: Make, project: Path, parcels: pl.DataFrame
) -> None:
    use_case = make()
    assert use_case.source_state is not None
    state = load_object(use_case.source_state)
    before = state()
    assert state() == before
    with_cell(parcels, "weight", 300, "heavy").write_csv(project / "parcels.csv")
    assert state() != before
    with pytest.raises(DataError, match=r"column 'weight', row 300: 'heavy' is not a number"):
        extracted(use_case)
    parcels.rename({"weight": "wieght"}).write_csv(project / "parcels.csv")
    with pytest.raises(DataError, match=r"no column 'weight' \(did you mean 'wieght'\?\)"):
        extracted(use_case)


HEAD = "parcel,handed_in_at,weight,hours\n"
ROW = "p{0},2024-01-{1:02}T10:00:00Z,{0}.5,{2}\n"


def rows(count: int = 300) -> list[str]:
    random = np.random.default_rng(1)
    return [ROW.format(i, 1 + i * 28 // count, random.integers(1, 40)) for i in range(count)]


BROKEN: dict[str, tuple[Any, dict[str, Any]]] = {
    "is empty": ("", {}),
    "has a header and no rows": (HEAD, {}),
    "no header: its first row holds '2024-01-01T10:00:00Z'": ("".join(rows()), {}),
    "the header names 'weight' more than once": (HEAD.replace("hours", "weight") + "".join(rows()), {}),
    "column 3 of 4 has no name": (HEAD.replace("weight", "") + "".join(rows()), {}),
    "separator ';'": ((HEAD + "".join(rows())).replace(",", ";"), {}),
    "row 7 has 5 fields, and the header has 4": (
        HEAD + "".join([*rows()[:5], "p,2024-01-01,1,2,3\n", *rows()[5:]]), {},
    ),
    r"row 4 is not UTF-8 \(byte 0xe4 after 'Schw'\).*iconv": (
        HEAD.encode() + "".join(rows()[:2]).encode() + b"Schw\xe4bisch,2024-01-01,1,2\n" + "".join(rows()[2:]).encode(),
        {},
    ),
    r"the last row, 'p299,2024-01-28T10:00:00Z', has 2 of 4 fields.*cut off": (
        (HEAD + "".join(rows())).rsplit(",", 2)[0], {},
    ),
    r"row 4 is no CSV.*quotation mark": (HEAD + "".join([*rows()[:2], 'p,2024-01-01,1,"2\n', *rows()[2:]]), {}),
    "is UTF-16": ((HEAD + "".join(rows())).encode("utf-16"), {}),
    r"column 'weight', row 12: 'heavy' is not a number.*--column weight=category": (
        HEAD + "".join([*rows()[:10], "p,2024-01-01T10:00:00Z,heavy,2\n", *rows()[10:]]), {},
    ),
    "Write numbers with a point": (
        (HEAD + "".join(rows())).replace(",", ";").replace(".5", ",5"), {"separator": ";"},
    ),
    r"column 'handed_in_at', row 12: 'soon' is not a time": (
        HEAD + "".join([*rows()[:10], "p,soon,1,2\n", *rows()[10:]]), {},
    ),
    r"handed_in_at' is a category and no time.*--time-format": (
        (HEAD + "".join(rows())).replace("2024-01-", "01/2024/"), {},
    ),
    r"2 of 301 rows share their key with another, such as rows 12 and 13 \(parcel p10\)": (
        HEAD + "".join([*rows()[:11], rows()[10], *rows()[11:]]), {},
    ),
    r"--key: 'weight' is a number, which can't be part of a key": (HEAD + "".join(rows()), {"key": "weight"}),
    r"--key: there is no column 'parcle'; did you mean 'parcel'": (HEAD + "".join(rows()), {"key": "parcle"}),
    r"--target: there is no column 'minutes'": (HEAD + "".join(rows()), {"target": "minutes"}),
    r"'parcel' is the key or the time": (HEAD + "".join(rows()), {"target": "parcel"}),
    "has the same value in all rows": (HEAD + re.sub(r"\d+\n", "1\n", "".join(rows())), {}),
    r"'hours' has \d+ values .*two classes.*--positive": (HEAD + "".join(rows()), {"kind": "binary"}),
    r"--kind: 'ranking' is none.*regression.*binary": (HEAD + "".join(rows()), {"kind": "ranking"}),
    "has 20 rows": (HEAD + "".join(rows(20)), {}),
    "40 of the 300 rows that were looked at have a truth": (
        HEAD + "".join([*rows()[:40], *(re.sub(r"\d+\n", "\n", row) for row in rows()[40:])]), {},
    ),
    r"column 'handed_in_at', row 292: '2924-01-28T10:00:00Z' lies in the future \(10 rows": (
        (HEAD + "".join(rows())).replace("2024-01-28", "2924-01-28"), {},
    ),
    r"--truth-delay: 'soon' is not a duration": (HEAD + "".join(rows()), {"truth_delay": "soon"}),
    "--truth-delay: 999999999d is longer than a century": (HEAD + "".join(rows()), {"truth_delay": "999999999d"}),
    r"column 'handed_in_at', row 2: '2024-01-01T10:00:00Z' is not a time.*--time-format": (
        HEAD + "".join(rows()), {"time_format": "%d/%m/%Y"},
    ),
    r"column 'parcel', row 2: 'p0' is not a whole number.*300 of 300.*--column": (
        HEAD + "".join(rows()), {"column": ["parcel=integer"]},
    ),
    r"column 'weight', row 2: '0.5' is not true or false": (HEAD + "".join(rows()), {"column": ["weight=boolean"]}),
    r"a shorter --truth-delay than 400d": (HEAD + "".join(rows()), {"truth_delay": "400d"}),
    r"--zone: there is no zone 'Europe/Atlantis'": (HEAD + "".join(rows()), {"zone": "Europe/Atlantis"}),
    r"--column: 'weight=float' is no NAME=KIND": (HEAD + "".join(rows()), {"column": ["weight=float"]}),
}  # fmt: skip


@pytest.mark.parametrize("message", BROKEN)
def test_bad_tables_and_answers_are_refused_in_words_and_nothing_is_left(
    message: str, make: Make, project: Path
) -> None:
    table, options = BROKEN[message]
    with pytest.raises(NinefoldError, match=message):
        make(table, **options)
    assert not (project / "usecases" / "parcels").exists()
    # The same name works once the table is mended.
    make()


THIRD: dict[str, tuple[str, dict[str, Any]]] = {
    r"'left' has 3 values \('No', 'Yes', 'Perhaps'\).*two classes": ("Perhaps", {}),
    r"--positive: 'Maybe' is none of the target's values": ("No", {"positive": "Maybe"}),
}


@pytest.mark.parametrize("message", THIRD)
def test_two_classes_are_two(message: str, make: Make) -> None:
    value, options = THIRD[message]
    with pytest.raises(NinefoldError, match=message):
        make(with_cell(customers(), "left", 99, value), **CUSTOMERS, **options)


def test_one_of_several_classes_can_be_asked_for_against_the_others(make: Make) -> None:
    table = with_cell(customers(), "left", 99, "Perhaps")
    use_case = make(table, **CUSTOMERS, positive="Yes")
    assert extracted(use_case).truths["truth"].sum() == (table["left"] == "Yes").sum()
    either = customers().with_columns(left=pl.col("left").replace("Yes", "north").replace("No", "south"))
    with pytest.raises(UsageError, match=r"counts as 1 can't be seen.*--positive"):
        make(either, name="either", **CUSTOMERS)


def test_a_class_that_comes_later_is_named_with_its_row(make: Make, project: Path) -> None:
    use_case = make(customers(), **CUSTOMERS)
    with_cell(customers(), "left", 99, "Perhaps").write_csv(project / "parcels.csv")
    with pytest.raises(DataError, match=r"column 'left', row 99: 'Perhaps' is none of its classes, 'Yes', 'No'"):
        extracted(use_case)


def test_a_column_that_is_the_target_in_disguise_is_named_and_refused_unless_allowed(
    make: Make, parcels: pl.DataFrame, project: Path
) -> None:
    leaking = parcels.with_columns(minutes=(pl.col("hours") * 60).round(0))
    with pytest.raises(DataError, match=r"leaks: minutes \(share of variance explained .*--allow"):
        make(leaking)
    assert make(leaking, column=["minutes=ignore"]).may_tell_alone == ()
    allowed = make(leaking, name="allowed", allow=["minutes"])
    assert allowed.may_tell_alone == ("minutes",)


def test_a_field_that_is_filled_in_afterwards_is_a_leak(make: Make) -> None:
    table = customers()
    reason = ["price" if left == "Yes" else "" for left in table["left"]]
    with pytest.raises(DataError, match=r"leaks: reason \(area under the ROC curve 1\.0000"):
        make(table.with_columns(reason=pl.Series(reason)), **CUSTOMERS)


def test_times_without_a_zone_are_taken_as_utc_and_that_is_said(
    make: Make, parcels: pl.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    local = parcels.with_columns(pl.col("handed_in_at").str.replace("T", " ").str.replace("Z", ""))
    make(local)
    assert "Times carry no zone and are taken as UTC" in capsys.readouterr().out
    berlin = make(local, name="berlin", zone="Europe/Berlin")
    assert "taken as UTC" not in capsys.readouterr().out
    assert str(extracted(berlin).requests["handed_in_at"][0]) == "2024-01-01 07:30:00+00:00"


def test_times_of_another_form_are_read_by_their_format(make: Make, parcels: pl.DataFrame) -> None:
    other = parcels.with_columns(pl.col("handed_in_at").str.to_datetime(time_zone="UTC").dt.strftime("%d.%m.%Y %H:%M"))
    use_case = make(other, time_format="%d.%m.%Y %H:%M")
    assert str(extracted(use_case).requests["handed_in_at"][0]) == "2024-01-01 08:30:00+00:00"


@pytest.mark.parametrize("option", ["key", "time", "target", "kind", "truth_delay"])
def test_without_a_terminal_an_answer_that_is_missing_is_an_error_that_names_its_option(
    option: str, make: Make
) -> None:
    with pytest.raises(UsageError, match=f"--{option.replace('_', '-')} is missing; the data suggest .+ Say it: --"):
        make(**{option: None})


def test_on_a_terminal_what_is_missing_is_asked_with_a_guess_and_asked_again_when_the_answer_is_wrong(
    project: Path, parcels: pl.DataFrame
) -> None:
    parcels.write_csv(project / "parcels.csv")
    terminal, inside = pty.openpty()
    command = [sys.executable, "-m", "ninefold", "new", "asked", "--file", "parcels.csv", "--truth-delay", "3d"]
    child = subprocess.Popen(command, stdin=inside, stdout=inside, stderr=inside, cwd=project)
    os.close(inside)
    # The guesses for key, time and kind are taken; the target is named wrongly first.
    os.write(terminal, b"\n\nhuors\nhours\n\n")
    shown = b""
    with contextlib.suppress(OSError):
        while part := os.read(terminal, 4096):
            shown += part
    os.close(terminal)
    text = re.sub(r"\x1b\[[0-9;]*m", "", shown.decode())
    assert child.wait(timeout=30) == 0, text
    assert "name a row? (parcel)" in text
    assert "did you mean 'hours'" in text
    assert (project / "usecases" / "asked" / "contract.py").exists()


def test_codes_with_leading_zeros_are_no_numbers_and_rows_that_are_counted_are_no_cause(make: Make) -> None:
    table = customers()
    use_case = make(
        table.with_columns(postcode=pl.Series([f"0{i % 40:04}" for i in range(400)]), line=pl.int_range(1000, 1400)),
        **CUSTOMERS,
    )
    assert use_case.fields["postcode"].kind == "category"
    assert "line" not in use_case.fields


def test_columns_may_be_called_as_the_scaffold_calls_its_own(make: Make) -> None:
    """A column called ``truth`` that is not the target is an input like any other."""
    head = "parcel,handed_in_at,truth,_row,len,usual,hours\n"
    inputs = [f"{i * 7 % 11}.5,{i % 5},{'ab'[i % 2]},{'xyz'[i % 3]}" for i in range(300)]
    table = head + "".join(
        f"p{i},2024-01-{1 + i * 28 // 300:02}T10:00:00Z,{row},{i % 2 * 9 + i % 3}\n" for i, row in enumerate(inputs)
    )
    use_case = make(table)
    assert {"truth", "_row", "len", "usual"} <= set(use_case.fields)
    with pytest.raises(DataError, match=r"column '_row', row 4: 'x' is not a number"):
        make(table.replace("10:00:00Z,3.5,2", "10:00:00Z,3.5,x", 1), name="others")


def test_a_column_that_no_row_with_a_truth_holds_is_left_out(make: Make, project: Path) -> None:
    table = HEAD.replace("hours", "note,hours") + "".join(
        f"p{i},2024-01-{1 + i * 28 // 600:02}T10:00:00Z,{i % 7}.5,{'' if i % 2 else i % 3},{i % 11 if i % 2 else ''}\n"
        for i in range(600)
    )
    assert "note" not in make(table).fields
    told = (project / "usecases" / "parcels" / "README.md").read_text()
    assert "`note`: no row that was looked at has both it and a truth" in told


def test_a_value_of_parquet_that_is_not_a_number_is_a_missing_one(
    make: Make, parcels: pl.DataFrame, project: Path
) -> None:
    at = pl.col("handed_in_at").str.to_datetime(time_zone="UTC")
    odd = pl.when(pl.int_range(pl.len()) % 3 == 0).then(float("nan")).otherwise("weight").alias("weight")
    parcels.with_columns(at, odd).write_parquet(project / "parcels.parquet")
    use_case = make(file=project / "parcels.parquet")
    assert use_case.fields["weight"].nullable
    assert extracted(use_case).requests["weight"].null_count() == 200


def test_whole_numbers_that_a_request_could_not_tell_apart_are_no_key(
    make: Make, parcels: pl.DataFrame, project: Path
) -> None:
    table = parcels.with_columns(
        pl.col("handed_in_at").str.to_datetime(time_zone="UTC"), parcel=pl.int_range(pl.len()) + 2**60
    )
    table.write_parquet(project / "parcels.parquet")
    with pytest.raises(UsageError, match=r"'parcel' is a number, .*--column parcel=category"):
        make(file=project / "parcels.parquet")
    use_case = make(file=project / "parcels.parquet", column=["parcel=category"])
    assert extracted(use_case).requests["parcel"][1] == str(2**60 + 1)
    with pytest.raises(DataError, match=rf"row 1: {2**60} is not a whole number"):
        make(file=project / "parcels.parquet", column=["parcel=integer"], name="others")


def test_a_files_name_is_no_code(make: Make, project: Path) -> None:
    odd = project / 'a"""\\x\n + open("made", "w") #.csv'
    odd.write_text(HEAD + "".join(rows()))
    assert extracted(make(file=odd)).requests.height == 300
    assert not (project / "made").exists()


def test_a_name_that_is_taken_is_refused(make: Make) -> None:
    make()
    for name in ("parcels", "arrivals"):
        with pytest.raises(UsageError, match=f"There is a use case {name} already"):
            make(name=name)
    with pytest.raises(UsageError, match="is no name for a use case"):
        make(name="My Parcels")


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)


@given(
    names=st.lists(NAMES.filter(str.strip), min_size=2, max_size=4, unique=True),
    values=st.lists(NAMES, min_size=2, max_size=5, unique=True),
)
@hypothesis.settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_columns_and_values_are_called_the_folder_loads_or_they_are_refused_in_words(
    make: Make, project: Path, names: list[str], values: list[str]
) -> None:
    rows = 150
    random = np.random.default_rng(7)
    table = pl.DataFrame(
        {
            "id": [f"k{i}" for i in range(rows)],
            **{f"{name}": [values[i % len(values)] for i in random.integers(0, 99, rows)] for name in names},
            "total": random.normal(size=rows).round(3),
        }
    )
    shutil.rmtree(project / "usecases", ignore_errors=True)
    for module in [m for m in sys.modules if m.startswith("usecases.any")]:
        del sys.modules[module]
    load_use_case.cache_clear()
    answers = {"key": "id", "time": "none", "target": "total", "kind": "regression", "truth_delay": "1d"}
    try:
        use_case = make(table, name="any", **answers)
    except NinefoldError:
        assert not (project / "usecases" / "any").exists()
        return
    history = extracted(use_case)
    assert history.requests.height == rows
    for field in use_case.request:
        field.check(field.example)


def test_a_title_that_would_break_the_code_is_refused(make: Make) -> None:
    with pytest.raises(UsageError, match="--title"):
        make(title='So"""\nimport os')
    assert make(title="Wie lange dauert es, bis ein Päckchen da ist?").title.startswith("Wie")


SECRET = "hunter2-never-written"


def _sold_by(
    kind: str, request: pytest.FixtureRequest, project: Path, table: pl.DataFrame
) -> tuple[str, Callable[..., Any]]:
    """A database with the parcels, its URL, and how a statement is run in it."""
    known = table.with_columns(known_at=pl.col("handed_in_at").str.to_datetime(time_zone="UTC") + timedelta(days=2))
    texts = known.with_columns(known_at=pl.col("known_at").dt.strftime("%Y-%m-%d %H:%M:%S+00:00"))
    if kind == "sqlite":
        connection: Any = sqlite3.connect(project / "shop.db", isolation_level=None)
        types, place, url = "text, text, text, real, integer, text, real, text", "?", "sqlite:///shop.db"
    else:
        url = request.getfixturevalue("new_postgresql_url")
        connection = psycopg.connect(url, autocommit=True)
        types = "text, timestamptz, text, numeric, boolean, text, double precision, timestamptz"
        place = "%s"
    columns = ["parcel", "handed_in_at", "depot", "weight", "express", "insured", "hours", "known_at"]
    declared = ", ".join(f"{name} {type_}" for name, type_ in zip(columns, types.split(", "), strict=True))
    connection.execute(f"CREATE TABLE parcels ({declared})")
    insert = f"INSERT INTO parcels VALUES ({', '.join([place] * 8)})"
    connection.execute("BEGIN")
    connection.cursor().executemany(insert, texts.rows())
    connection.execute("COMMIT")
    request.addfinalizer(connection.close)
    return url, connection.execute


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_database_becomes_a_use_case_that_reads_what_became_known_since(
    kind: str, make: Make, project: Path, parcels: pl.DataFrame, request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    url, run = _sold_by(kind, request, project, parcels)
    (project / "parcels.sql").write_text("SELECT * FROM parcels WHERE weight >= :least AND hours IS NOT NULL")
    monkeypatch.setenv("PARCELS_DATABASE_PASSWORD", SECRET)
    use_case = make(sql=url, query=project / "parcels.sql", parameter=["least=0"])
    assert extracted(use_case).truths.height == 600
    assert use_case.fields["weight"].kind == "number"
    assert extracted(use_case).truths["known_at"][0].hour == 8
    assert "known_at" not in use_case.fields
    source = load_object("usecases.parcels.etl:SOURCE")
    run(
        "INSERT INTO parcels VALUES "
        "('new', '2024-06-01 10:00:00+00:00', 'west', 3.5, true, '', 21.5, '2024-06-03 10:00:00+00:00')"
    )
    assert source.update() == 2
    assert extracted(use_case).requests["parcel"].to_list()[-1] == "new"
    folder = project / "usecases" / "parcels"
    assert (folder / "query.sql").read_text() == (project / "parcels.sql").read_text() + "\n"
    written = [*folder.rglob("*"), *settings().home.rglob("*")]
    assert not any(SECRET.encode() in path.read_bytes() for path in written if path.is_file())
    # The query that runs is the folder's own.
    (project / "parcels.sql").unlink()
    assert extracted(use_case).requests.height == 601


def test_a_row_of_a_database_that_is_forgotten_is_taken_out_of_what_is_kept(
    make: Make, project: Path, parcels: pl.DataFrame, request: pytest.FixtureRequest
) -> None:
    url, _ = _sold_by("sqlite", request, project, parcels)
    (project / "parcels.sql").write_text("SELECT * FROM parcels")
    use_case = make(sql=url, query=project / "parcels.sql")
    folder = settings().folder("data") / "parcels"
    found = erase_from_parquet(use_case, key_of(use_case, None, ["parcel=000007"]), folder)
    assert list(found.values()) == [1]


def test_a_password_in_the_address_is_refused(make: Make, project: Path) -> None:
    (project / "q.sql").write_text("SELECT 1")
    with pytest.raises(NinefoldError, match="set the environment variable PARCELS_DATABASE_PASSWORD") as refused:
        make(sql=f"postgresql://reader:{SECRET}@host/shop", query=project / "q.sql")
    assert SECRET not in str(refused.value)
