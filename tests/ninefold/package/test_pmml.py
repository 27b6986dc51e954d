"""Documents by hand: what the standard says they mean, and what is refused before it can do harm."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import pytest

from ninefold.errors import ConfigurationError, PackageError
from ninefold.fields import Input
from ninefold.package.pmml import PmmlPredictor, document
from ninefold.signature import PackageManifest, Signature

INPUTS = (Input(name="wind"), Input(name="carrier", kind="category"))
FIELDS = """<DataDictionary><DataField name="wind" optype="continuous" dataType="float"/>
<DataField name="carrier" optype="categorical" dataType="string"/></DataDictionary>"""
SCHEMA = '<MiningSchema><MiningField name="wind"/><MiningField name="carrier"/></MiningSchema>'
REGRESSION = f"""<RegressionModel functionName="regression">{SCHEMA}<RegressionTable intercept="1.5">
<NumericPredictor name="wind" coefficient="2"/></RegressionTable></RegressionModel>"""
TREE = f"""<TreeModel functionName="regression" missingValueStrategy="defaultChild">{SCHEMA}
<Node id="0" defaultChild="2"><True/>
<Node id="1" defaultChild="4"><SimplePredicate field="wind" operator="lessOrEqual" value="0.5"/>
<Node id="3" score="1"><SimpleSetPredicate field="carrier" booleanOperator="isIn"><Array type="string" n="2">AA "B 6"
</Array></SimpleSetPredicate></Node><Node id="4" score="2"><True/></Node></Node>
<Node id="2" score="3"><True/></Node></Node></TreeModel>"""


def pmml(model: str, fields: str = FIELDS, before: str = "") -> bytes:
    return f'{before}<PMML version="4.4" xmlns="http://www.dmg.org/PMML-4_4"><Header/>{fields}{model}</PMML>'.encode()


def predictor(content: bytes) -> PmmlPredictor:
    signature = Signature(
        use_case="toy", problem="regression", inputs=INPUTS, views=(), derive_digest="", target="delay"
    )
    return PmmlPredictor(PackageManifest(format="pmml", signature=signature, statistics={}), content)


def test_a_regression_is_its_table_and_a_missing_number_leaves_no_answer() -> None:
    found = predictor(pmml(REGRESSION)).predict_rows([[3.0, "AA"], [None, "AA"], [-1, None]])
    np.testing.assert_array_equal(found, [7.5, math.nan, -0.5])


def test_a_tree_goes_by_its_tests_and_what_is_missing_goes_to_the_default() -> None:
    rows = [[0.5, "AA"], [0.0, "B 6"], [0.0, "UA"], [0.0, None], [0.5000001, "AA"], [None, "AA"], [-math.inf, "AA"]]
    np.testing.assert_array_equal(predictor(pmml(TREE)).predict_rows(rows), [1, 1, 2, 2, 3, 3, 1])


def test_an_opposite_test_and_one_for_what_is_not_missing_mean_what_they_say() -> None:
    opposite = TREE.replace("lessOrEqual", "greaterThan").replace("isIn", "isNotIn")
    found = predictor(pmml(opposite)).predict_rows([[0.6, "AA"], [0.6, "UA"], [0.6, None], [0.5, "AA"], [None, "AA"]])
    np.testing.assert_array_equal(found, [2, 1, 2, 3, 3])
    asked = f"""<TreeModel functionName="regression" missingValueStrategy="defaultChild">{SCHEMA}<Node id="0"
    defaultChild="1"><True/><Node id="1" score="1"><SimplePredicate field="carrier" operator="isNotMissing"/></Node>
    <Node id="2" score="2"><True/></Node></Node></TreeModel>"""
    found = predictor(pmml(asked)).predict_rows([[0.0, "AA"], [0.0, None]])
    np.testing.assert_array_equal(found, [1, 2])


def test_no_rows_have_no_answers() -> None:
    assert len(predictor(pmml(TREE)).predict_rows([])) == 0


LAUGHS = '<!DOCTYPE PMML [<!ENTITY a "ha">' + "".join(
    f'<!ENTITY {name} "{"&" + before + ";" * 1}{("&" + before + ";") * 9}">'
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
) + "]>"  # fmt: skip


@pytest.mark.parametrize(
    "content",
    [
        pmml(REGRESSION.replace("1.5", "&i;"), before=LAUGHS),
        pmml(REGRESSION, before='<!DOCTYPE PMML SYSTEM "file:///etc/passwd">'),
        pmml(
            REGRESSION.replace("</RegressionTable>", "&x;</RegressionTable>"),
            before='<!DOCTYPE PMML [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        ),
        pmml(REGRESSION, before='<!DOCTYPE PMML [<!ENTITY % x SYSTEM "http://127.0.0.1:1/x.dtd"> %x;]>'),
        pmml(REGRESSION, before="<!DOCTYPE PMML>"),
    ],
    ids=["billion laughs", "external type", "external entity", "parameter entity", "empty type"],
)
def test_a_document_type_or_an_entity_is_refused_before_it_is_followed(content: bytes) -> None:
    with pytest.raises(PackageError, match="has a document type or an entity"):
        predictor(content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not XML"),
        (b"\x00" * 100, "is not XML"),
        (pmml(REGRESSION)[:-10], "is not XML"),
        (b'<?xml version="1.0" encoding="nope"?><PMML/>', "is not XML"),
        (pmml(REGRESSION.replace("&", "")).replace(b"1.5", b"&unknown;"), "is not XML"),
        (pmml(REGRESSION).replace(b"PMML-4_4", b"PMML-3_0"), "PMML-3_0}PMML', which is not read here"),
        (pmml(REGRESSION).replace(b'version="4.4"', b'version="4.3"'), "not PMML 4.4"),
        (pmml("<NeuralNetwork/>"), "NeuralNetwork', which is not read here"),
        (pmml(""), "has 0 models, not one"),
        (pmml(REGRESSION + REGRESSION), "has 2 models, not one"),
        (pmml(REGRESSION.replace('intercept="1.5"', 'intercept="nan"')), "no finite number"),
        (pmml(REGRESSION.replace('name="wind" coef', 'name="rain" coef')), "reads the number 'rain'"),
        (pmml(REGRESSION.replace('name="wind"/>', 'name="wind" missingValueReplacement="0"/>')), "missingValueRepl"),
        (pmml(REGRESSION.replace("regression", "classification")), "functionName = 'classification'"),
        (pmml(TREE.replace('missingValueStrategy="defaultChild"', "")), "missingValueStrategy = None"),
        (pmml(TREE.replace('defaultChild="2"', 'defaultChild="9"')), "defaultChild = '9'"),
        (pmml(TREE.replace('value="0.5"', 'value="1e999"')), "no finite number"),
        (pmml(TREE.replace('n="2"', 'n="3"')), "has 2 items and says '3'"),
        (pmml(TREE.replace('field="carrier"', 'field="wind"')), "looks for the number 'wind' in a set"),
        (pmml(TREE.replace("lessOrEqual", "equal")), "operator = 'equal'"),
        (pmml(REGRESSION, FIELDS.replace("float", "integer")), "is not as the signature says"),
        (pmml(REGRESSION, FIELDS.replace('"carrier"', '"airline"')), "is not as the signature says"),
        (pmml("<Header>" * 700 + "</Header>" * 700), "over 600 nested elements"),
        (b"<a>" * 100_000 + b"</a>" * 100_000, "which is not read here"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(content: bytes, words: str) -> None:
    with pytest.raises(PackageError) as told:
        predictor(content)
    assert words in str(told.value)


def test_a_long_document_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "MAX_BYTES", 100)
    with pytest.raises(PackageError, match="at most 100 are read"):
        predictor(pmml(REGRESSION))


def test_without_the_extra_the_package_to_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    modules: Any = sys.modules
    monkeypatch.setitem(modules, "defusedxml", None)
    with pytest.raises(ConfigurationError, match=r"defusedxml is not installed.*pip install '\.\[formats\]'"):
        predictor(pmml(REGRESSION))
