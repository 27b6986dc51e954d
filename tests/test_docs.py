"""The documentation is true: what there is is written down, and what is written down is there."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from starlette.applications import Starlette

from components.evaluator import service as evaluator
from components.evaluator.openapi import OPENAPI as EVALUATOR
from components.model_builder import service as model_builder
from ninefold.clock import WallClock
from ninefold.keys import Keys, KeysFile, create_key
from ninefold.loading import load_use_case
from ninefold.settings import settings
from ninefold.store import Store, open_store
from pipelines.api import OPENAPI as RUNS
from pipelines.api import runs_app
from serving.collector.app import Collector
from serving.collector.openapi import document as collector_document
from serving.front_end.openapi import document as front_end_document

ROOT = Path(__file__).parents[1]
PARTS = sorted(
    folder
    for root in ("components", "serving")
    for folder in (ROOT / root).iterdir()
    if (folder / "__init__.py").exists()
)
PAGES = sorted(
    {
        ROOT / "README.md",
        *(ROOT / "docs").rglob("*.md"),
        *(folder / "README.md" for folder in (*PARTS, ROOT / "pipelines", ROOT / "feature_repo", ROOT / "bench")),
    }
)
FEASTS_OWN = {"NINEFOLD_FEAST_REGISTRY_URL", "NINEFOLD_USE_CASE", "NINEFOLD_USE_CASE_PATH"}
COMMON = {("GET", path) for path in ("/healthz", "/readyz", "/metrics", "/openapi.json")}


def named(pages: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", pages, ids=lambda page: str(page.relative_to(ROOT)))


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ninefold_docs_tables", ROOT / "docs" / "tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def store() -> Iterator[Store]:
    with open_store(settings().store_url) as opened:
        yield opened


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("name", ["settings.md", "commands.md"])
def test_the_tables_are_those_that_the_code_makes(tables: ModuleType, name: str) -> None:
    current = (ROOT / "docs" / name).read_text() == tables.filled(name)
    assert current, f"docs/{name} is not current. Run: python docs/tables.py"


def test_every_setting_says_what_it_means(tables: ModuleType) -> None:
    assert [name for name, _, meaning in tables.settings_rows() if not meaning] == []


def test_every_command_and_option_says_what_it_does(tables: ModuleType) -> None:
    silent = [words for words, command in tables.commands() if not command.help]
    silent += [f"{words} {p.name}" for words, command in tables.commands() for p in command.params if not p.help]
    assert silent == []


@named(PAGES)
def test_settings_that_a_page_names_exist(tables: ModuleType, page: Path) -> None:
    known = {name for name, _, _ in tables.settings_rows()} | FEASTS_OWN
    assert set(re.findall(r"NINEFOLD_[A-Z_]*[A-Z]", page.read_text())) <= known


@named(PAGES)
def test_commands_that_a_page_shows_exist(tables: ModuleType, page: Path) -> None:
    known = {words: {o for p in command.params for o in p.opts} for words, command in tables.commands()}
    text = re.sub(r"\s*#.*", "", "\n".join(blocks(page, "sh")), flags=re.MULTILINE)
    wrong = []
    for line in re.findall(r"^(?:NINEFOLD_\S+ )*(ninefold .*)$", text, re.MULTILINE):
        words = next((w for w in known if f"{line} ".startswith(f"{w} ")), None)
        if words is None or not set(re.findall(r"(?<=\s)--[a-z-]+", line)) <= known[words]:
            wrong.append(line)
    assert wrong == []


@named(PAGES)
def test_make_targets_that_a_page_names_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z][a-z0-9-]*)", page.read_text(), re.MULTILINE)) <= targets


@named(PAGES)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in _anchors(file)):
            broken.append(target)
    assert broken == []


def _anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@named([page for page in PAGES if page.name == "README.md" and page.parent not in (ROOT, ROOT / "docs")])
def test_files_that_a_part_s_page_names_exist(page: Path) -> None:
    names = set(re.findall(r"`([\w/]+\.py)`", page.read_text()))
    assert [n for n in sorted(names) if not (page.parent / n).exists() and not (ROOT / n).exists()] == []


@pytest.mark.parametrize("folder", PARTS, ids=lambda folder: f"{folder.parent.name}/{folder.name}")
def test_every_component_and_service_has_a_short_page_that_the_index_links(folder: Path) -> None:
    page = folder / "README.md"
    assert page.exists()
    assert len(page.read_text().splitlines()) <= 40
    assert f"(../{page.relative_to(ROOT)})" in (ROOT / "docs" / "README.md").read_text()


@named([page for page in PAGES if blocks(page, "python")])
def test_python_on_a_page_runs(page: Path, store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2):
        store.register_version("churn", digest=f"{number}" * 64, uri="/packages", version=None)
    store.set_state("churn", 2, "live")
    for source in blocks(page, "python"):
        # The author's own code, from this repository.
        exec(compile(source, str(page), "exec"), {"__name__": "docs"})
    live = store.live_version("churn")
    assert live is not None
    assert live.version == 2


def routes(app: Starlette) -> set[tuple[str, str]]:
    return {(method, r.path) for r in app.routes for method in r.methods - {"HEAD"}}  # type: ignore[attr-defined]


def described(document: dict[str, Any]) -> set[tuple[str, str]]:
    return {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}


def unnamed(endpoints: set[tuple[str, str]]) -> set[tuple[str, str]]:
    return {(method, re.sub(r"\{\w+\}", "{}", path)) for method, path in endpoints}


def written(service: str) -> str:
    """What docs/api.md says of a service."""
    return next(part for part in (ROOT / "docs" / "api.md").read_text().split("\n## ") if part.startswith(service))


def missing(service: str, endpoints: set[tuple[str, str]]) -> list[str]:
    page = written(service)
    return sorted(f"{method} {path}" for method, path in endpoints if f"`{method} {path}`" not in page)


def test_every_endpoint_of_the_front_end_is_documented() -> None:
    document = front_end_document(load_use_case("arrivals"), max_instances=1)
    endpoints = {(method, path.replace("arrivals", "<use case>")) for method, path in described(document)}
    assert missing("Front end", endpoints | COMMON) == []


def test_every_endpoint_of_the_collector_is_documented(store: Store, tmp_path: Path) -> None:
    create_key(tmp_path / "keys.json", "test")
    use_case = load_use_case("arrivals")
    app = Collector(use_case, settings(), store, KeysFile(tmp_path / "keys.json")).app()
    assert routes(app) == COMMON | described(collector_document(use_case, clock="wall", max_items=1))
    assert missing("Collector", routes(app)) == []


def test_every_endpoint_of_the_runs_api_is_documented(store: Store) -> None:
    app = runs_app(store, settings(), Keys({}), WallClock())
    assert routes(app) == COMMON | described(RUNS)
    assert missing("Runs", routes(app)) == []


def test_every_endpoint_of_the_evaluator_is_documented() -> None:
    app = evaluator.app(keys=Keys({}), clock=WallClock(), settings=settings())
    assert routes(app) == COMMON | described(EVALUATOR)
    assert missing("Evaluator", routes(app)) == []


def test_every_endpoint_of_the_model_builder_is_documented() -> None:
    app = model_builder.app(keys=Keys({}), clock=WallClock(), roots=(), models_url="")
    assert unnamed(routes(app)) == COMMON | unnamed(described(model_builder._OPENAPI))
    assert missing("Model builder", routes(app)) == []


KSERVE = """
import json, sys, warnings
from serving.model_server.lean_kserve import import_kserve
import_kserve()
warnings.simplefilter("ignore")
from kserve import ModelRepository
from kserve.constants.constants import FASTAPI_APP_IMPORT_STRING as name
from kserve.protocol.dataplane import DataPlane
from kserve.protocol.model_repository_extension import ModelRepositoryExtension
from kserve.protocol.rest.server import RESTServer
from uvicorn.importer import import_from_string
models = ModelRepository()
RESTServer(name, DataPlane(models), ModelRepositoryExtension(models), 0).create_application()
json.dump(import_from_string(name).openapi(), sys.stdout)
"""


def test_every_endpoint_of_the_model_server_is_documented() -> None:
    # KServe's import changes logging and warnings of the whole process.
    found = subprocess.run([sys.executable, "-c", KSERVE], capture_output=True, text=True, check=True)
    assert missing("Model server", described(json.loads(found.stdout)) | COMMON) == []
