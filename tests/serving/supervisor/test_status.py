"""What ``ninefold status`` says of a process that works and names a problem."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from children import spec, tick_until

from serving.supervisor.processes import Child
from serving.supervisor.state import ProcessState, SupervisorState
from serving.supervisor.status import rows

ANSWERS = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
        self.wfile.write(BODY)
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.mark.parametrize(
    ("body", "state", "ready", "said"),
    [
        (b'{"status":"ready","problem":"another derive"}', "problem", False, "another derive"),
        (b'{"status":"ready","problem":null}', "ready", True, ""),
        (b'{"status":"ready"}', "ready", True, ""),
        (b"OK", "ready", True, ""),
    ],
)
def test_a_problem_that_a_process_names_is_shown(
    tmp_path: Path, body: bytes, state: str, ready: bool, said: str
) -> None:
    child = Child(spec(tmp_path, ANSWERS.replace("BODY", repr(body))))
    try:
        tick_until(child, lambda: child.ready)
        assert child.process is not None
        process = ProcessState(
            name="front end", pid=child.process.pid, born=child.born, host="127.0.0.1", port=child.spec.port,
            state="ready", restarts=0,
        )  # fmt: skip
        (row,) = rows(
            SupervisorState(
                use_case="parcels", pid=os.getpid(), born=None, ready=True, model_only=False, live=1, problem="",
                processes=(process,),
            )
        )  # fmt: skip
        assert (row.state, row.ready, row.last_line) == (state, ready, said)
    finally:
        child.terminate()
        child.wait(5)
