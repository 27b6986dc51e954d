import json
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ninefold.errors import InvalidInput, NinefoldError, TooLarge
from ninefold.fields import Field
from serving.front_end.validation import RequestParser

FIELDS = [
    Field(name="number", kind="number"),
    Field(name="nullable_number", kind="number", nullable=True),
    Field(name="integer", kind="integer", minimum=0, maximum=10),
    Field(name="boolean", kind="boolean"),
    Field(name="category", kind="category"),
    Field(name="closed", kind="category", categories=("a", "b")),
    Field(name="pattern", kind="category", pattern="[A-Z]{2}", example="UA"),
    Field(name="text", kind="text", nullable=True),
    Field(name="time", kind="time"),
]
GOOD = {
    "number": 1.5, "nullable_number": None, "integer": 3, "boolean": True, "category": "x", "closed": "a",
    "pattern": "UA", "text": "hello", "time": "2013-07-01T12:30:00Z",
}  # fmt: skip

times = st.one_of(
    st.datetimes(timezones=st.timezones()).map(datetime.isoformat),
    st.datetimes().map(datetime.isoformat),
    st.dates().map(str),
    st.just("0001-01-01T00:00:00+10:00"),
    st.just("9999-12-31T23:59:59-10:00"),
)
values = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5), st.sampled_from(["a", "b", "UA", "UA\n", "ua", "x" * 256, "x" * 257, "1e999", "y" * 100_001]),
    times, st.lists(st.booleans(), max_size=2), st.dictionaries(st.text(max_size=2), st.none(), max_size=1),
)  # fmt: skip


def parser(*fields: Field, most: int = 5) -> RequestParser:
    return RequestParser(fields or FIELDS, name="test", max_instances=most)


def outcome(check):
    try:
        return repr(check())
    except NinefoldError as error:
        return type(error), str(error), getattr(error, "field", None)


@given(st.sampled_from(FIELDS), values)
def test_a_value_is_judged_exactly_as_its_field_judges_it(field, value):
    body = orjson.dumps({"instances": [{field.name: value}]})
    # What the wire makes of it is what is judged.
    sent = orjson.loads(body)["instances"][0][field.name]
    assert outcome(lambda: parser(field).parse(body).rows[0][0]) == outcome(
        lambda: field.check(sent, where="instances[0].")
    )


def test_a_good_instance_is_kept_as_python_values():
    batch = parser().parse(json.dumps({"instances": [GOOD]}).encode())
    assert batch.rows == [[1.5, None, 3.0, 1.0, "x", "a", "UA", "hello", datetime(2013, 7, 1, 12, 30, tzinfo=UTC)]]
    assert batch.instances == [GOOD]


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        (b"{", "body", "not JSON"),
        (b"", "body", "not JSON"),
        (b"[1]", "body", "is a JSON list"),
        (b"3", "body", "is a JSON number"),
        (b"\xff\xfe", "body", "not JSON"),
        (b'{"instances": [{"number": NaN}]}', "instances[0].number", "NaN or infinite"),
        (b"[" * 100_000, "body", "not JSON"),
        (b"{}", "instances", "is missing"),
        (b'{"instances": {"number": 1}}', "instances", "is a JSON object"),
        (b'{"instances": null}', "instances", "is a JSON null"),
        (b'{"instances": []}', "instances", "is empty"),
        (b'{"instances": [[1, 2]]}', "instances[0]", "is a JSON list"),
        (b'{"instances": [{}], "parameters": {}}', "parameters", "is not known"),
    ],
)
def test_a_body_that_is_not_a_list_of_instances_is_refused_by_name(body, field, words):
    with pytest.raises(InvalidInput, match=words) as caught:
        parser().parse(body)
    assert caught.value.field == field


def test_an_unknown_field_is_named_with_its_place():
    with pytest.raises(InvalidInput, match=r"instances\[1\]\.colour: is not a field of test") as caught:
        parser().parse(json.dumps({"instances": [GOOD, {**GOOD, "colour": 1}]}).encode())
    assert caught.value.field == "instances[1].colour"


def test_a_missing_field_is_named_and_a_nullable_one_may_be_missing():
    short = {name: value for name, value in GOOD.items() if name != "nullable_number"}
    assert parser().parse(json.dumps({"instances": [short]}).encode()).rows[0][1] is None
    del short["category"]
    with pytest.raises(InvalidInput, match=r"instances\[0\]\.category: is missing"):
        parser().parse(json.dumps({"instances": [short]}).encode())


def test_too_many_instances_are_refused_before_they_are_looked_at():
    with pytest.raises(TooLarge, match=r"100,000 are over the bound of 5"):
        parser().parse(b'{"instances": [' + b",".join([b"{}"] * 100_000) + b"]}")
