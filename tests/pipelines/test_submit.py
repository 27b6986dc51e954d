"""What is submitted is checked before anybody is asked, and what the server refuses is one line with its remedy."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ninefold.errors import (
    ConfigurationError,
    InvalidInput,
    NinefoldError,
    NotAuthenticated,
    NotFound,
    StepFailed,
    Unavailable,
    UsageError,
)
from pipelines.kfp_server import Address, KfpServer, address, refusal
from pipelines.submit import Where, arguments, states, wait_for, where

DIGEST = "registry.example/ninefold/pipeline@sha256:" + "0" * 64


def test_without_an_end_a_run_takes_the_time_at_which_it_begins() -> None:
    found = arguments("training", "arrivals", {"max_training_time": 60}, Where(image=DIGEST))
    assert (found["until"], found["max_training_time"], found["image"]) == ("", 60.0, DIGEST)
    assert (found["node_selector"], found["tolerations"]) == ({}, [])


@pytest.mark.parametrize("given", [{"max_training_time": 0}, {"branches": 2}, {"seed": -1}, {"until": "soon"}])
def test_the_rest_is_checked_all_the_same(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        arguments("training", "arrivals", given, Where())


def test_a_place_is_read_as_people_write_it() -> None:
    found = where(DIGEST, ["pool=training", "zone="], ["dedicated=training:NoSchedule", "gpu:NoExecute", "spot"], "me")
    assert found.fixed
    assert found.node_selector == {"pool": "training", "zone": ""}
    assert found.tolerations == [
        {"key": "dedicated", "operator": "Equal", "value": "training", "effect": "NoSchedule"},
        {"key": "gpu", "operator": "Exists", "effect": "NoExecute"},
        {"key": "spot", "operator": "Exists"},
    ]
    assert not where(None, [], [], "me").fixed


@pytest.mark.parametrize(
    "image", ["ninefold", "ninefold/pipeline:latest", "Ninefold:1", "a b:1", "x@sha256:12", "x:1;rm", ":1"]
)
def test_an_image_has_a_tag_of_its_own_or_a_digest(image: str) -> None:
    with pytest.raises(InvalidInput, match="image: "):
        where(image, [], [], "me")


@pytest.mark.parametrize("image", ["a:1", "localhost:5000/a/b:1-x", "localhost/ninefold/pipeline:0.1.0-python3.11"])
def test_an_image_may_lie_anywhere(image: str) -> None:
    assert where(image, [], [], "me").image == image


@pytest.mark.parametrize("text", ["pool", "=x", "pool=a b"])
def test_a_label_is_a_name_and_a_value(text: str) -> None:
    with pytest.raises(InvalidInput, match="node_selector"):
        where(None, [text], [], "me")


@pytest.mark.parametrize("text", ["", "=x", "a=b:Never", ":NoSchedule"])
def test_a_taint_is_a_key_and_an_effect(text: str) -> None:
    with pytest.raises(InvalidInput, match="toleration"):
        where(None, [], [text], "me")


def test_host_and_token_come_from_the_environment_of_kfp(tmp_path: Path) -> None:
    assert address(None, environment={"KF_PIPELINES_ENDPOINT": "http://a/"}) == Address(host="http://a")
    file = tmp_path / "token"
    file.write_text("of the account\n")
    given = {"KF_PIPELINES_SA_TOKEN_PATH": str(file)}
    assert address("http://a", environment=given).token == "of the account"
    assert address("http://a", environment={**given, "KF_PIPELINES_TOKEN": "mine"}).token == "mine"
    assert "mine" not in repr(address("http://a", environment={"KF_PIPELINES_TOKEN": "mine"}))
    with pytest.raises(ConfigurationError, match="can't be read"):
        address("http://a", environment={"KF_PIPELINES_SA_TOKEN_PATH": str(tmp_path / "none")})
    with pytest.raises(UsageError, match="KF_PIPELINES_ENDPOINT"):
        address(None, environment={})
    with pytest.raises(UsageError, match="no URL"):
        address("localhost", environment={})


def test_a_host_that_nobody_is_at_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        host = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(Unavailable, match=rf"does not answer at {host}: .*refused.*port-forward"):
            KfpServer(Address(host=host))


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (401, json.dumps({"message": "no\n token"}), NotAuthenticated, "who asks.*no token.*KF_PIPELINES_TOKEN"),
        (403, "{}", NotAuthenticated, "refuses"),
        (302, "", NotAuthenticated, "log in"),
        (404, "<html>", Unavailable, "no Kubeflow Pipelines"),
        (404, json.dumps({"error": "Run 5 not found"}), NotFound, "Run 5 not found"),
        (400, json.dumps({"message": "bad spec"}), UsageError, "bad spec"),
        (503, None, Unavailable, "HTTP 503"),
    ],
)
def test_each_refusal_is_one_line(status: int, body: str | None, kind: type[NinefoldError], words: str) -> None:
    found = refusal(Address(host="http://a"), status, body)
    assert type(found) is kind
    assert "\n" not in str(found)
    with pytest.raises(kind, match=words):
        raise found


def _run(state: str, **steps: str) -> Any:
    details = [SimpleNamespace(display_name=name.replace("_", "-"), state=one) for name, one in steps.items()]
    return SimpleNamespace(
        state=state, error=None, display_name="training-x", run_details=SimpleNamespace(task_details=details)
    )


class _Answers:
    """What a server would answer to one question after another."""

    def __init__(self, *runs: Any) -> None:
        self.at, self._runs = Address(host="http://a"), list(runs)

    def run(self, _: str) -> Any:
        return self._runs.pop(0) if len(self._runs) > 1 else self._runs[0]


def _wait(*runs: Any) -> list[tuple[str, str]]:
    told: list[tuple[str, str]] = []
    clock = iter(range(0, 1000, 10))
    server: Any = _Answers(*runs)
    wait_for(
        server, "7", seconds=50, on_step=lambda name, state: told.append((name, state)),
        monotonic=lambda: float(next(clock)), sleep=lambda _: None,
    )  # fmt: skip
    return told


def test_waiting_tells_of_each_step_once_a_state() -> None:
    going = _run("RUNNING", root="RUNNING", look_up="SUCCEEDED", look_up_driver="SUCCEEDED", extract="RUNNING")
    told = _wait(going, going, _run("SUCCEEDED", look_up="SUCCEEDED", extract="SUCCEEDED"))
    assert told == [("look-up", "SUCCEEDED"), ("extract", "RUNNING"), ("extract", "SUCCEEDED")]
    assert states(_run("PENDING")) == {}


def test_a_run_that_fails_names_its_step_and_its_page() -> None:
    with pytest.raises(StepFailed, match=r"failed in build.*http://a/#/runs/details/7"):
        _wait(_run("FAILED", extract="SUCCEEDED", build="FAILED"))


def test_a_run_that_does_not_end_says_where_to_look() -> None:
    """An image that can't be pulled leaves KFP waiting for ever."""
    with pytest.raises(StepFailed, match=r"within 50 s; it is at extract.*pipeline/runid=7"):
        _wait(_run("RUNNING", extract="RUNNING"))
