"""The digest follows the code that steps run, and nothing else."""

import sys
from pathlib import Path

import pytest

from ninefold.loading import load_use_case
from pipelines import code_digest as module
from pipelines.code_digest import code_digest


def test_use_cases_have_digests_of_their_own_that_stay() -> None:
    arrivals = code_digest(load_use_case("arrivals"))
    assert arrivals == code_digest(load_use_case("arrivals"))
    assert arrivals != code_digest(load_use_case("churn"))


def test_an_edit_of_the_library_changes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "edited_library"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "core.py").write_text("x = 1\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(module, "ROOTS", ("edited_library",))
    before = code_digest(load_use_case("churn"))
    (folder / "core.py").write_text("x = 2\n")
    assert code_digest(load_use_case("churn")) != before
    (folder / "core.py").write_text("x = 1\n")
    assert code_digest(load_use_case("churn")) == before
