import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ninefold.errors import InvalidInput
from ninefold.json_input import read_json_body

DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"instances": [{"a": 1}, {"a": 2, "b": NaN}]}', "instances[1].b"),
        (b'{"instances": [{"a": Infinity}]}', "instances[0].a"),
        (b'{"truths": [{"value": -Infinity}]}', "truths[0].value"),
        (b'{"truths": [{"value": 1e999}, {"value": NaN}]}', "truths[0].value"),
        (b'{"instances": [{"a": "b"}, {"a": ["tea \\ud83d"]}]}', "instances[1].a[0]"),
        (b'{"instances": [{"\\udc00": 1}]}', "instances[0]"),
        (b"NaN", "body"),
        (b"[NaN", "body"),
        (b"{", "body"),
        (b"", "body"),
        (b'"\xff"', "body"),
        (b"[" * 100_000, "body"),
    ],
)
def test_what_is_no_json_is_refused_and_a_number_or_a_text_that_is_none_is_named(body: bytes, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_json_body(bytearray(body), remedy="Send an object.")
    assert caught.value.field == field


@given(DOCUMENTS)
def test_a_document_is_read_unless_a_number_in_it_is_not_finite(document: object) -> None:
    text = json.dumps(document)
    finite = all(word not in json.dumps(document, default=str) for word in ("NaN", "Infinity"))
    try:
        assert read_json_body(text.encode(), remedy="") == document
    except InvalidInput:
        # A lone surrogate is no text either.
        assert not finite or "\\ud" in text
