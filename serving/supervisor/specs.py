"""What each child is started with: its command, its port, and an environment in which it reads the same settings."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from ninefold.errors import ConfigurationError
from ninefold.service import bound_socket
from ninefold.settings import Settings
from serving.supervisor.processes import ChildSpec
from serving.traffic.desired import Model


def settings_environment(settings: Settings) -> dict[str, str]:
    """The environment in which a child reads the very same settings, and imports the same, wherever it works."""
    flat: dict[str, str] = {}
    paths = os.environ.get("PYTHONPATH", "")
    if paths:
        # A use case of another folder is found by it, and its parts may be relative to where this process works.
        flat["PYTHONPATH"] = os.pathsep.join(str(Path(part).absolute()) for part in paths.split(os.pathsep) if part)

    def add(prefix: str, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            if isinstance(value, dict):
                add(f"{prefix}{name.upper()}__", value)
            elif isinstance(value, SecretStr):
                # As JSON it would be asterisks.
                flat[prefix + name.upper()] = value.get_secret_value()
            elif value is not None:
                flat[prefix + name.upper()] = str(value) if isinstance(value, (str, Path)) else json.dumps(value)

    add("NINEFOLD_", settings.model_dump())
    return flat


class Specs:
    """The children of one use case.

    Args:
        settings: Where everything lies and listens.
        use_case: Name or import path.
        name: Name of the use case.
        environment: Added to every child's environment.
    """

    def __init__(self, settings: Settings, use_case: str, name: str, environment: Mapping[str, str]) -> None:
        self._settings = settings
        self._use_case = use_case
        self._name = name
        self._environment = {**settings_environment(settings), **environment}

    def services(self) -> list[ChildSpec]:
        """Front end and collector; and the rollouts' controller, where the wall clock is what it looks at.

        In event time whoever drives the replay makes the controller look.
        """
        ports = self._settings.ports
        found = [
            self._service("front end", "front_end", ports.front_end),
            self._service("collector", "collector", ports.collector),
        ]
        return found if self._settings.clock == "event" else [*found, self._service("rollout", "rollout", None)]

    def model(self, model: Model, taken: Collection[int | None]) -> ChildSpec:
        """A version's server.

        Args:
            model: The version.
            taken: Ports that are spoken for.

        Raises:
            ConfigurationError: No port is free.
        """
        host = self._settings.host
        port = _free_port(host, self._settings.ports.models_from + model.version, taken)
        arguments = (
            "-m", "serving.model_server", "--package", model.package, "--digest", model.digest, "--name", self._name,
            "--host", host, "--port", str(port), "--keys", str(self._settings.keys_path),
        )  # fmt: skip
        return self._spec(f"model {model.version}", arguments, port, version=model.version)

    def _service(self, name: str, module: str, port: int | None) -> ChildSpec:
        return self._spec(name, ("-m", f"serving.{module}", "--use-case", self._use_case), port)

    def _spec(
        self, name: str, arguments: tuple[str, ...], port: int | None, *, version: int | None = None
    ) -> ChildSpec:
        return ChildSpec(
            name=name,
            command=(sys.executable, *arguments),
            log=self._settings.folder("logs") / f"{name.replace(' ', '-')}.log",
            folder=self._settings.home,
            port=port,
            host=self._settings.host,
            environment=self._environment,
            version=version,
        )


def _free_port(host: str, wanted: int, taken: Collection[int | None]) -> int:
    for port in (wanted, 0):
        if port in taken:
            continue
        try:
            with bound_socket(host, port, name="model server") as listener:
                found: int = listener.getsockname()[1]
                return found
        except (ConfigurationError, OverflowError):
            continue
    raise ConfigurationError(f"No port is free on {host} for a model server.")
