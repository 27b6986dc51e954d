"""A field's value is what its kind says, or an error that names the field, the value and the remedy."""

import hashlib
import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ninefold.errors import ConfigurationError, InvalidInput
from ninefold.fields import MAX_CATEGORY_LENGTH, Field, Metric, digest


@pytest.mark.parametrize(
    ("field", "value", "kept"),
    [
        (Field(name="a", kind="number"), 3, 3.0),
        (Field(name="a", kind="number"), -0.5, -0.5),
        (Field(name="a", kind="integer"), 3.0, 3.0),
        (Field(name="a", kind="boolean"), True, 1.0),
        (Field(name="a", kind="category"), "UA", "UA"),
        (Field(name="a", kind="text"), "", ""),
        (Field(name="a", kind="time"), "2013-07-01T12:00:00Z", datetime(2013, 7, 1, 12, tzinfo=UTC)),
        (Field(name="a", kind="time"), "2013-07-01T12:00:00+02:00", datetime(2013, 7, 1, 10, tzinfo=UTC)),
        (Field(name="a", kind="time"), "2013-07-01T12:00:00", datetime(2013, 7, 1, 12, tzinfo=UTC)),
        (Field(name="a", kind="number", nullable=True), None, None),
    ],
)
def test_a_value_of_the_right_kind_is_kept(field: Field, value: object, kept: object) -> None:
    assert field.check(value) == kept


@pytest.mark.parametrize(
    ("field", "value", "word"),
    [
        (Field(name="a", kind="number"), "3", "not a number"),
        (Field(name="a", kind="number"), True, "not a number"),
        (Field(name="a", kind="number"), math.nan, "not finite"),
        (Field(name="a", kind="number"), math.inf, "not finite"),
        (Field(name="a", kind="number"), 10**400, "not finite"),
        (Field(name="a", kind="number"), None, "missing"),
        (Field(name="a", kind="integer"), 1.5, "not whole"),
        (Field(name="a", kind="boolean"), 1, "not a boolean"),
        (Field(name="a", kind="category"), 3, "not a string"),
        (Field(name="a", kind="category"), "x" * (MAX_CATEGORY_LENGTH + 1), "characters"),
        (Field(name="a", kind="text"), "x\0y", "NUL"),
        (Field(name="a", kind="category", categories=("x", "y")), "z", "not one of its values"),
        (Field(name="a", kind="category", pattern=r"\d{4}"), "12345", "does not match"),
        (Field(name="a", kind="time"), 20130701, "not a time"),
        (Field(name="a", kind="time"), "yesterday", "not a time"),
    ],
)
def test_a_wrong_value_names_the_field_and_what_is_wrong(field: Field, value: object, word: str) -> None:
    with pytest.raises(InvalidInput, match=word) as caught:
        field.check(value, where="instances[3].")
    assert caught.value.field == "instances[3].a"
    assert str(caught.value).startswith("instances[3].a: ")


@given(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=50), st.lists(st.integers())))
def test_no_value_ends_in_anything_but_a_value_or_a_named_error(value: object) -> None:
    for kind in ("number", "integer", "boolean", "category", "text", "time"):
        field = Field(name="a", kind=kind)
        try:
            kept = field.check(value)
        except InvalidInput as error:
            named = error.field
        else:
            named = "a"
            assert kept is not None
            assert not (isinstance(kept, float) and not math.isfinite(kept))
        assert named == "a"


def test_the_declared_range_is_closed_and_does_not_refuse() -> None:
    field = Field(name="a", kind="number", minimum=0, maximum=10)
    assert field.check(11) == 11
    assert [field.in_range(v) for v in (-0.1, 0, 10, 10.1)] == [False, True, True, False]


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "a b", "kind": "number"},
        {"name": "a__b", "kind": "number"},
        {"name": "a", "kind": "category", "minimum": 1},
        {"name": "a", "kind": "number", "categories": ("x",)},
        {"name": "a", "kind": "text", "digest_of": "b"},
        {"name": "a", "kind": "category", "digest_of": "b", "nullable": True},
        {"name": "a", "kind": "category", "digest_of": "b", "pattern": "[a-z]"},
    ],
)
def test_a_wrong_declaration_is_refused_at_import(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match="a"):
        Field(**wrong)


def test_a_digest_is_what_any_client_computes() -> None:
    text = "Отличный чай 🙂"
    assert digest(text) == hashlib.sha256(text.encode("utf-8")).hexdigest()[:32]
    assert len({digest(other) for other in ("a", "a ", "A", "")}) == 4


def test_a_metric_knows_its_direction() -> None:
    assert Metric(name="mae", direction="minimize").better(1, 2)
    assert Metric(name="auc", direction="maximize").better(2, 1)
    assert not Metric(name="auc", direction="maximize").better(1, 1)


def test_a_direction_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="min'"):
        Metric(name="mae", direction="min")  # type: ignore[arg-type]
