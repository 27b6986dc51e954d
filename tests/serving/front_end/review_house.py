"""A front end for reviews and the real model server that it asks, each in a process of its own, over HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from parcel_house import free_port, start, wait_for

from ninefold.keys import local_key
from ninefold.routes import RouteTable, Variant, write_routes
from ninefold.settings import Settings, settings


@dataclass
class ReviewHouse:
    """Both, running.

    Args:
        settings: Those that both go by.
        client: Asks the front end.
        model: Asks the model server.
        package: Digest and folder of the package that is served.
        revision: Of the routes.
    """

    settings: Settings
    client: httpx.Client
    model: httpx.Client
    package: tuple[str, str]
    revision: int = 0

    def route(self, url: str) -> None:
        """Has the front end ask another address, and waits until it does."""
        self.revision += 1
        digest, folder = self.package
        served = Variant(version=1, url=url, package=folder, digest=digest)
        table = RouteTable(use_case="reviews", revision=self.revision, live=1, variants={1: served})
        write_routes(self.settings.home / "gateway" / "reviews.json", table)

    def ask(self, verb: str, *instances: dict[str, Any]) -> httpx.Response:
        """Posts instances as they are."""
        return self.client.post(f"/v1/models/reviews:{verb}", content=json.dumps({"instances": list(instances)}))

    def answer(self, verb: str, *texts: str) -> dict[str, Any]:
        """The answer to instances that hold a text and nothing else."""
        response = self.ask(verb, *({"input": text} for text in texts))
        assert response.status_code == 200, response.text
        document: dict[str, Any] = response.json()
        return document


@contextmanager
def review_house(home: Path, package: tuple[str, str]) -> Iterator[ReviewHouse]:
    """Starts both."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NINEFOLD_HOME", str(home))
        settings.cache_clear()
        chosen = settings()
        key = local_key(chosen.home, chosen.keys_path)
        catalogue = home / "models.json"
        catalogue.write_text(json.dumps({"reviews": {"digest": package[0], "package": package[1]}}))
        port, model_port = free_port(), free_port()
        model_server = subprocess.Popen(
            [sys.executable, "-m", "serving.model_server", "--models", str(catalogue), "--port", str(model_port),
             "--keys", str(chosen.keys_path)],
            env={**os.environ, "PYTHONSAFEPATH": "1"},
        )  # fmt: skip
        url = f"http://127.0.0.1:{model_port}"
        headers = {"X-ApiKey": key}
        with httpx.Client(base_url=url, headers=headers, timeout=20) as model:
            house = ReviewHouse(chosen, httpx.Client(headers=headers, timeout=20), model, package)
            house.route(url)
            front_end = start(port, use_case="reviews", NINEFOLD_SERVING__MODEL_TIMEOUT_SECONDS="5")
            try:
                wait_for(f"{url}/readyz", model_server)
                wait_for(f"http://127.0.0.1:{port}/healthz", front_end)
                house.client.base_url = httpx.URL(f"http://127.0.0.1:{port}")
                yield house
            finally:
                house.client.close()
                for process in (front_end, model_server):
                    process.kill()
                    process.communicate()
    settings.cache_clear()
