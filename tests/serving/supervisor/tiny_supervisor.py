"""A supervisor over a real store, Envoy and processes, whose own children are tiny programs on the same ports.

``python tiny_supervisor.py`` runs one by the environment's settings, to be killed from outside.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from children import IDLE, READY, spec

from ninefold.settings import Settings
from serving.supervisor.processes import ChildSpec
from serving.supervisor.specs import Specs
from serving.supervisor.supervisor import Supervisor

MODEL = Path(__file__).parents[1] / "gateway" / "tiny_model.py"


class TinySpecs(Specs):
    """Model servers answer who they are; services answer that they are ready."""

    broken: frozenset[str] = frozenset()

    def _spec(
        self, name: str, arguments: tuple[str, ...], port: int | None, *, version: int | None = None
    ) -> ChildSpec:
        code = READY if port is not None else IDLE
        if name in self.broken:
            code = "import sys; sys.exit('this package is damaged')"
        tiny = spec(self._settings.folder("logs"), code, name=name.replace(" ", "-"), version=version)
        command = (*tiny.command[:-1], str(port))
        if version is not None and name not in self.broken:
            command = (sys.executable, "-I", "-S", str(MODEL), str(port), f"v{version}", "none")
        return replace(tiny, name=name, port=port, command=command)


class Tiny(Supervisor):
    """A supervisor whose children are tiny programs on the same ports."""

    specs: TinySpecs

    def __init__(self, settings: Settings, use_case: str, *, model_only: bool = False) -> None:
        super().__init__(settings, use_case, model_only=model_only)
        environment: Mapping[str, str] = {}
        self.specs = TinySpecs(settings, use_case, self.name, environment)
        self._models._specs = self.specs


if __name__ == "__main__":
    with Tiny(Settings(), "arrivals") as supervisor:
        supervisor.wait_ready(30)
        supervisor.wait()
