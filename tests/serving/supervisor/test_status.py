"""What ``ninefold status`` says of a process that works and names a problem."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from children import spec, tick_until

from ninefold.routes import RouteTable
from serving.supervisor.front_end import follows
from serving.supervisor.processes import Child
from serving.supervisor.state import (
    ProcessState,
    ServedRollout,
    SupervisorState,
    read_state,
    write_state,
)  # fmt: skip
from serving.supervisor.status import Row, rollout_row, rows

ANSWERS = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
        self.wfile.write(BODY)
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def row_of(child: Child) -> Row:
    """What is shown of a process that runs."""
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
    return row


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
        row = row_of(child)
        assert (row.state, row.ready, row.last_line) == (state, ready, said)
    finally:
        child.terminate()
        child.wait(5)


def test_an_answer_that_is_cut_off_is_none_and_ends_nobody_who_asked(tmp_path: Path) -> None:
    """As of a process that is killed while it answers."""
    cut_off = "self.send_response(200); self.send_header('Content-Length', '99'); "
    code = ANSWERS.replace("self.send_response(200); ", cut_off).replace("BODY", "b'{'")
    child = Child(spec(tmp_path, code))
    try:
        tick_until(child, lambda: child.ready)
        assert not follows(child.address, "key", RouteTable(use_case="parcels", revision=1, live=None))
        row = row_of(child)
        assert row.state == "ready"
    finally:
        child.terminate()
        child.wait(5)


SHOWN = {"id": "r1", "ready": True, "problem": None, "observed": {"live": 800, "candidate": 200}, "shadowed": {}}


@pytest.mark.parametrize(
    ("shown", "routed", "observed", "problem"),
    [
        (SHOWN, True, {"live": 800, "candidate": 200}, ""),
        (SHOWN | {"problem": "another derive"}, True, {"live": 800, "candidate": 200}, "another derive"),
        (SHOWN | {"id": "r0"}, True, {}, ""),
        (None, True, {}, ""),
        (SHOWN, False, {"live": 800, "candidate": 200}, "the server of version 3 is not ready"),
    ],
)
def test_the_open_rollout_is_shown_as_it_is_configured_and_as_the_front_end_counts(
    tmp_path: Path, shown: dict[str, object] | None, routed: bool, observed: dict[str, int], problem: str
) -> None:
    child = Child(spec(tmp_path, ANSWERS.replace("BODY", repr(json.dumps({"rollout": shown}).encode()))))
    try:
        tick_until(child, lambda: child.ready)
        front_end = ProcessState(
            name="front end", pid=None, born=None, host="127.0.0.1", port=child.spec.port, state="ready", restarts=0
        )
        rollout = ServedRollout(
            rollout_id="r1", state="canary", step=1, revision=4, incumbent=2, candidate=3, share=0.2, routed=routed
        )
        state = SupervisorState(
            use_case="arrivals", pid=1, born=None, ready=True, model_only=False, live=2, problem="",
            processes=(front_end,), rollout=rollout,
        )  # fmt: skip
        write_state(tmp_path, state)
        assert read_state(tmp_path) == state
        row = rollout_row(state, "key")
    finally:
        child.terminate()
        child.wait(5)
    assert row is not None
    assert (row.observed, row.problem) == (observed, problem)
    first, second, *rest = row.lines()
    assert first == "Rollout r1: version 3 against 2, canary, step 2 (revision 4)"
    counted = "; 200 of 1,000 answers (20.0%)" if observed else ""
    assert second == f"Its share: 20.0% of the audience{counted}"
    assert rest == ([f"Its problem: {problem}"] if problem else [])
    assert row.to_json()["observed"] == observed
    assert rollout_row(replace(state, rollout=None), "key") is None
