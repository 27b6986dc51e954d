"""The digest follows the code that steps run, and nothing else."""

import sys
from pathlib import Path

import pytest

from pipelines import code_digest as module
from pipelines.code_digest import code_digest


def test_use_cases_have_digests_of_their_own_that_stay() -> None:
    arrivals = code_digest("arrivals")
    assert arrivals == code_digest("arrivals")
    assert arrivals != code_digest("churn")


def test_an_edit_of_the_library_changes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "edited_library"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "core.py").write_text("x = 1\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(module, "ROOTS", ("edited_library",))
    before = code_digest("churn")
    (folder / "core.py").write_text("x = 2\n")
    assert code_digest("churn") != before
    (folder / "core.py").write_text("x = 1\n")
    assert code_digest("churn") == before


def test_an_edit_of_a_variant_that_borrows_everything_else_changes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "varying_team"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    variant = (
        "from dataclasses import replace\nfrom ninefold.usecase import Gates\n"
        "from usecases.churn import USE_CASE as CHURN\nUSE_CASE = replace(CHURN, gates=Gates(slice_margin={}))\n"
    )
    (folder / "variants.py").write_text(variant.format(0.05))
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    before = code_digest("varying_team.variants:USE_CASE")
    (folder / "variants.py").write_text(variant.format(0.5))
    assert code_digest("varying_team.variants:USE_CASE") != before


def test_an_edit_of_where_history_comes_from_changes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("borrowing_team", "lending_team"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
    (tmp_path / "borrowing_team" / "contract.py").write_text(
        "from dataclasses import replace\nfrom usecases.churn import USE_CASE as CHURN\n"
        "USE_CASE = replace(CHURN, extract='lending_team.etl:extract', augment='missing_team.rows:augment')\n"
    )
    etl = tmp_path / "lending_team" / "etl.py"
    etl.write_text("def extract(): return 1\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    before = code_digest("borrowing_team.contract:USE_CASE")
    etl.write_text("def extract(): return 2\n")
    assert code_digest("borrowing_team.contract:USE_CASE") != before
