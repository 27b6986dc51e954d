"""Where what is served can be reached, and a line that asks it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from ninefold.fields import Field, Input
from ninefold.loading import load_use_case
from ninefold.package import verify_package
from ninefold.routes import read_routes
from serving.supervisor.supervisor import Supervisor


def addresses(supervisor: Supervisor) -> list[tuple[str, str]]:
    """Name and address of every service, as the routes stand."""
    found = [] if supervisor.model_only else [("front end", supervisor.front_end), ("collector", supervisor.collector)]
    table = read_routes(supervisor.routes)
    if table is not None and table.gateway is not None:
        found.append(("gateway", supervisor.gateway))
    variants = [] if table is None else list(table.variants.values())
    return [*found, *((f"model {v.version}", v.url) for v in variants)]


def curl_line(supervisor: Supervisor, request: Mapping[str, Any] | None = None) -> str:
    """A command that asks for one prediction, with this machine's key: of the front end, else of the model server.

    Args:
        supervisor: Serves the use case.
        request: What to ask of the front end; by default the example that the use case declares.
    """
    table = read_routes(supervisor.routes)
    url, instance = supervisor.front_end, request or _request(load_use_case(supervisor.use_case).request)
    if supervisor.model_only and table is not None and table.live is not None:
        live = table.variants[table.live]
        url, instance = live.url, _inputs(verify_package(live.package, live.digest).signature.inputs)
    key = shlex.quote(str(supervisor.settings.home / "local.key"))
    body = shlex.quote(json.dumps({"instances": [instance]}, ensure_ascii=False))
    return f'curl -s {url}/v1/models/{supervisor.name}:predict -H "X-ApiKey: $(cat {key})" -d {body}'


def _request(fields: Iterable[Field]) -> dict[str, Any]:
    return {f.name: f.example for f in fields if f.example is not None or not f.nullable}


def _inputs(inputs: Iterable[Input]) -> dict[str, Any]:
    return {i.name: 0 if i.kind == "number" else "" for i in inputs}
