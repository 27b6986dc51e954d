"""A Kubernetes cluster for tests: the one that KUBECONFIG names, in a namespace of its own."""

from __future__ import annotations

import base64
import json
import os
import shutil
import ssl
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml


@dataclass(frozen=True)
class Cluster:
    """A namespace on a cluster.

    Args:
        kubeconfig: File that ``kubectl`` can use.
        namespace: Made for the tests, and deleted after them.
        folder: For files.
    """

    kubeconfig: Path
    namespace: str
    folder: Path

    def kubectl(self, *arguments: str, document: Any = None, check: bool = True) -> str:
        """Runs ``kubectl`` in the namespace; a document goes in by ``-f -``."""
        command = ["kubectl", "--kubeconfig", str(self.kubeconfig), "--namespace", self.namespace, *arguments]
        given = None if document is None else json.dumps(document)
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, check=False)
        if check and done.returncode != 0:
            raise RuntimeError(f"{' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def server(self) -> tuple[str, ssl.SSLContext]:
        """The API server's address, and how it is asked in the name of the kubeconfig's user."""
        config = yaml.safe_load(self.kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        context = ssl.create_default_context(cafile=str(self._file(cluster, "certificate-authority")))
        context.load_cert_chain(self._file(user, "client-certificate"), self._file(user, "client-key"))
        return cluster["server"], context

    def through(self, address: str) -> Path:
        """A kubeconfig for a proxy in front of the API server that holds the credentials."""
        return kubeconfig(self.folder / f"through-{uuid.uuid4().hex[:8]}", address)

    def _file(self, part: dict[str, str], name: str) -> Path:
        if name in part:
            return Path(part[name])
        path = self.folder / name
        path.write_bytes(base64.b64decode(part[f"{name}-data"]))
        return path


def kubeconfig(path: Path, server: str, token: str = "") -> Path:
    """Writes a kubeconfig for a server without TLS."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {"token": token} if token else {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(yaml.safe_dump(document))
    return path


@contextmanager
def namespace(folder: Path) -> Iterator[Cluster]:
    """A namespace on the cluster; skips where there is none."""
    given = os.environ.get("KUBECONFIG", "")
    if not given or not Path(given).is_file():
        pytest.skip("no cluster: KUBECONFIG names no file")
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl on the PATH")
    cluster = Cluster(Path(given), f"ninefold-test-{uuid.uuid4().hex[:8]}", folder)
    try:
        cluster.server()
        cluster.kubectl("create", "namespace", cluster.namespace)
    except (KeyError, RuntimeError) as error:
        pytest.skip(f"no cluster that these tests can use: {error}")
    try:
        yield cluster
    finally:
        cluster.kubectl("delete", "namespace", cluster.namespace, "--wait=false")
