"""The server's imports: no Kubernetes client, and whoever wants it can still have it."""

from __future__ import annotations

import subprocess
import sys

LEAN = """
import sys
from serving.model_server.lean_kserve import import_kserve
import_kserve()
import serving.model_server.server
assert "kubernetes" not in sys.modules
import kserve
assert kserve.ModelServer and kserve.KServeClient is None
import kserve.api.kserve_client
assert kserve.api.kserve_client.KServeClient is not None
print("lean")
"""


def test_a_server_does_not_import_the_kubernetes_client() -> None:
    child = subprocess.run([sys.executable, "-c", LEAN], capture_output=True, text=True, check=False, timeout=60)
    assert child.stdout == "lean\n", child.stderr
