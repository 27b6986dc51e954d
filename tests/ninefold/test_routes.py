"""A route table is replaced whole; a damaged one is an error, a missing one is none."""

import json
from pathlib import Path

import pytest

from ninefold.errors import DataError
from ninefold.routes import InnerGateway, RouteTable, Variant, read_routes, write_routes

VARIANTS = {
    n: Variant(version=n, url=f"http://127.0.0.1:809{n}", package=f"/models/{n}", digest=f"d{n}") for n in (1, 2)
}
TABLE = RouteTable(
    use_case="arrivals",
    revision=4,
    live=1,
    variants=VARIANTS,
    candidate=2,
    rollout="r7",
    cohorts={"share": 0.05, "salt": "r7"},
    weights={1: 95, 2: 5},
    gateway=InnerGateway(url="http://127.0.0.1:8086", secret="s3cret"),
)


def test_a_table_survives_its_file(tmp_path: Path) -> None:
    write_routes(tmp_path / "gateway" / "arrivals.json", TABLE)
    assert read_routes(tmp_path / "gateway" / "arrivals.json") == TABLE
    assert [p.name for p in (tmp_path / "gateway").iterdir()] == ["arrivals.json"]


def test_a_file_from_before_rollouts_is_read(tmp_path: Path) -> None:
    document = {key: TABLE.to_json()[key] for key in ("use_case", "revision", "live", "variants")}
    (tmp_path / "arrivals.json").write_text(json.dumps(document))
    expected = RouteTable(use_case="arrivals", revision=4, live=1, variants=VARIANTS)
    assert read_routes(tmp_path / "arrivals.json") == expected


def test_no_file_is_no_table(tmp_path: Path) -> None:
    assert read_routes(tmp_path / "arrivals.json") is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"use_case": "a", "revision": 1, "live": 3, "variants": []}'])
def test_a_damaged_file_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "arrivals.json").write_text(text)
    with pytest.raises(DataError):
        read_routes(tmp_path / "arrivals.json")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"live": 3}, "live version 3"),
        ({"candidate": 3}, "candidate version 3"),
        ({"weights": {"3": 1}}, "version 3 has a weight"),
        ({"weights": {"1": -1}}, "weight -1"),
        ({"weights": {"1": 0.5}}, "weight 0.5"),
        ({"weights": {"1": 2**31}}, "from 0 to 1,000,000"),
        ({"weights": {"1": 0, "2": 0}}, "all weights are 0"),
    ],
)
def test_what_names_no_variant_and_no_weight_is_refused(tmp_path: Path, change: dict[str, object], named: str) -> None:
    (tmp_path / "arrivals.json").write_text(json.dumps({**TABLE.to_json(), **change}))
    with pytest.raises(DataError, match=named):
        read_routes(tmp_path / "arrivals.json")


def test_the_secret_stays_out_of_logs() -> None:
    assert "s3cret" not in repr(TABLE)
