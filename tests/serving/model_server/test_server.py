"""The server as its clients meet it: a real process, over HTTP and gRPC."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub

PREDICT = "/v1/models/arrivals:predict"
Packages = Callable[[float], tuple[str, str]]


def ask(server: Any, document: Any, **headers: str) -> httpx.Response:
    with server.client(**headers) as client:
        return client.post(PREDICT, json=document)


# What KServe's own conformance tests of v1 look at: live, list, readiness, predict, unknown, bad input, explain.


def test_v1_lists_and_shows_models(server: Any) -> None:
    with server.client() as client:
        assert client.get("/").json() == {"status": "alive"}
        assert sorted(client.get("/v1/models").json()["models"]) == ["arrivals", "other"]
        assert client.get("/v1/models/arrivals").json() == {"name": "arrivals", "ready": True}
        assert client.get("/v1/models/nobody").status_code == 404


def test_v1_predicts_lists_and_objects(server: Any) -> None:
    answer = ask(server, {"instances": [[1, 2.5, "UA"], {"carrier": None, "distance": 3, "delay": -1}]})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {"predictions": [4.5, 3.0]}


def test_v1_predicts_whatever_the_content_type(server: Any) -> None:
    with server.client() as client:
        for content_type in ("application/json; charset=utf-8", "application/x-www-form-urlencoded", "text/plain"):
            answer = client.post(
                PREDICT, content=b'{"instances": [[1, 2, "UA"]]}', headers={"content-type": content_type}
            )
            assert answer.json() == {"predictions": [4.0]}


def test_v1_answers_cloud_events_as_kserve_does(server: Any) -> None:
    event = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "test", "ce-type": "request"}
    answer = ask(server, {"instances": [[1, 2, "UA"]]}, **event)
    assert answer.json() == {"predictions": [4.0]}
    assert answer.headers["ce-specversion"] == "1.0"


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b'{"instances": [[1, 2', 400, "body"),
        (b"[]", 400, "body"),
        (b"", 400, "body"),
        (b'{"instances": NaN}', 400, "instances"),
        (b'{"instances": [[1, 2, "UA"], [1, -Infinity, "UA"]]}', 400, "instances[1][1]"),
        (b"{}", 400, "instances"),
        (b'{"instances": {"0": [1, 2, "UA"]}}', 400, "instances"),
        (b'{"instances": []}', 400, "instances"),
        (b'{"instances": [[1, 2, "UA"], 3]}', 400, "instances[1]"),
        (b'{"instances": [[1, 2, "UA"], [1, 2]]}', 400, "instances[1]"),
        (b'{"instances": [[1, 2, "UA", 4]]}', 400, "instances[0]"),
        (b'{"instances": [[1, "2", "UA"]]}', 400, "instances[0].distance"),
        (b'{"instances": [[1, [2], "UA"]]}', 400, "instances[0].distance"),
        (b'{"instances": [[1, 2, "UA"], [1, 1e39, "UA"]]}', 400, "instances[1].distance"),
        (b'{"instances": [[1, 2, 3]]}', 400, "instances[0].carrier"),
        (b'{"instances": [{"delay": 1, "distance": 2}]}', 400, "instances[0].carrier"),
        (b'{"instances": [{"delay": 1, "distance": 2, "carrier": "UA", "speed": 3}]}', 400, "instances[0].speed"),
    ],
)
def test_v1_names_what_is_wrong(server: Any, body: bytes, status: int, said: str) -> None:
    with server.client() as client:
        answer = client.post(PREDICT, content=body)
    assert answer.status_code == status
    assert answer.json()["error"].startswith(f"{said}: ")
    assert answer.json()["field"] == said


def test_v1_unknown_model_and_explain(server: Any) -> None:
    with server.client() as client:
        answer = client.post("/v1/models/nobody:predict", json={"instances": [[1, 2, "UA"]]})
        assert (answer.status_code, "nobody" in answer.json()["error"]) == (404, True)
        answer = client.post("/v1/models/arrivals:explain", json={"instances": [[1, 2, "UA"]]})
        assert answer.status_code == 501
        assert server.key not in answer.text + str(answer.headers)


def test_a_prediction_that_is_no_number_is_an_error_and_counted(server: Any) -> None:
    with server.client() as client:
        before = _metric(client, 'ninefold_model_not_finite_total{model_name="arrivals"}')
        answer = client.post(PREDICT, json={"instances": [[1, 2, "UA"], [1, None, "UA"]]})
        assert answer.status_code == 500
        assert answer.json()["error"].startswith("instances[1]")
        assert _metric(client, 'ninefold_model_not_finite_total{model_name="arrivals"}') == before + 1


def test_too_large_is_answered_and_the_server_lives(server: Any) -> None:
    assert ask(server, {"instances": [[1, 2, "UA"]] * 1001}).status_code == 413
    with server.client() as client:
        for path in (PREDICT, "/v2/models/arrivals/infer"):
            answer = client.post(path, content=b" " * 1_500_000)
            assert (answer.status_code, "100,000 bytes" in answer.json()["error"]) == (413, True)
            answer = client.post(path, content=iter([b" " * 60_000] * 3))
            assert answer.status_code == 413
    assert ask(server, {"instances": [[1, 2, "UA"]] * 1000}).status_code == 200


def test_keys_are_asked_for_except_by_probes(server: Any) -> None:
    with httpx.Client(base_url=server.url) as stranger:
        for path in ("/", "/healthz", "/readyz", "/metrics", "/v2/health/live", "/v2/health/ready"):
            assert stranger.get(path).status_code == 200
        for method, path in (
            ("POST", PREDICT),
            ("GET", "/v1/models"),
            ("POST", "/v2/models/arrivals/infer"),
            ("GET", "/v2/models/arrivals"),
            ("POST", "/v2/repository/models/arrivals/unload"),
            ("POST", "/v1/models/arrivals:explain"),
        ):
            answer = stranger.request(method, path, headers={"X-ApiKey": "nf_wrong"})
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        answer = stranger.post(
            PREDICT, json={"instances": [[1, 2, "UA"]]}, headers={"Authorization": f"Bearer {server.key}"}
        )
        assert answer.status_code == 200


def test_ids_of_the_request_come_back(server: Any) -> None:
    sent = {"X-Request-ID": "r-1", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    with server.client(**sent) as client:
        for answer in (
            client.post(PREDICT, json={"instances": [[1, 2, "UA"]]}),
            client.post(PREDICT, json={}),
            client.get("/v1/models"),
        ):
            assert {name: answer.headers[name] for name in sent} == sent


def tensors(**changes: Any) -> dict[str, Any]:
    columns = {
        "delay": {"datatype": "FP32", "shape": [2], "data": [1, 2]},
        "distance": {"datatype": "INT64", "shape": [2, 1], "data": [3, 4]},
        "carrier": {"datatype": "BYTES", "shape": [2], "data": ["UA", ""]},
    }
    columns |= changes
    return {"inputs": [{"name": name, **tensor} for name, tensor in columns.items() if tensor]}


def test_v2_infers_and_describes(server: Any) -> None:
    with server.client() as client:
        described = client.get("/v2/models/arrivals").json()
        assert [i["name"] for i in described["inputs"]] == ["delay", "distance", "carrier"]
        for content_type in ("application/json", "application/json; charset=utf-8", "text/plain"):
            answer = client.post(
                "/v2/models/arrivals/infer", content=json.dumps(tensors()), headers={"content-type": content_type}
            ).json()
            assert answer["outputs"][0]["data"] == [5.0, 7.0]
            assert answer["id"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"carrier": None}, "inputs.carrier"),
        ({"speed": {"datatype": "FP32", "shape": [2], "data": [1, 2]}}, "inputs.speed"),
        ({"delay": {"datatype": "BYTES", "shape": [2], "data": ["1", "2"]}}, "inputs.delay"),
        ({"delay": {"datatype": "FP32", "shape": [3], "data": [1, 2]}}, "inputs.delay"),
        ({"distance": {"datatype": "FP32", "shape": [1], "data": [1]}}, "inputs.distance"),
        ({"delay": {"datatype": "FP32", "shape": [1, 2], "data": [1, 2]}}, "inputs.delay"),
    ],
)
def test_v2_names_what_is_wrong(server: Any, changes: dict[str, Any], said: str) -> None:
    with server.client() as client:
        answer = client.post("/v2/models/arrivals/infer", json=tensors(**changes))
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(said)


def test_v2_over_grpc_with_and_without_a_key(server: Any) -> None:
    request = pb.ModelInferRequest(model_name="arrivals")
    for name, values in (("delay", [1.0]), ("distance", [2.0])):
        request.inputs.add(name=name, datatype="FP32", shape=[1]).contents.fp32_contents.extend(values)
    request.inputs.add(name="carrier", datatype="BYTES", shape=[1]).contents.bytes_contents.append(b"UA")
    with grpc.insecure_channel(server.grpc) as channel:
        stub = GRPCInferenceServiceStub(channel)
        assert stub.ServerReady(pb.ServerReadyRequest()).ready
        answer = stub.ModelInfer(request, metadata=[("x-apikey", server.key)])
        assert list(answer.outputs[0].contents.fp32_contents) == [4.0]
        with pytest.raises(grpc.RpcError) as refused:
            stub.ModelInfer(request)
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
        del request.inputs[2]
        with pytest.raises(grpc.RpcError) as refused:
            stub.ModelInfer(request, metadata=[("x-apikey", server.key)])
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        load = pb.RepositoryModelLoadRequest(model_name="arrivals")
        assert stub.RepositoryModelLoad(load, metadata=[("x-apikey", server.key)]).isLoaded


def test_reload_under_load_loses_nothing(server: Any, packages: Packages) -> None:
    catalogue = json.loads(server.models.read_text())
    digest, folder = packages(7.0)
    stop, seen, bad = threading.Event(), set(), []

    def load() -> None:
        with server.client() as client:
            while not stop.is_set():
                answer = client.post(PREDICT, json={"instances": [[0, 0, "UA"]]})
                seen.add(answer.json()["predictions"][0]) if answer.status_code == 200 else bad.append(answer.text)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        with server.client() as client:
            for at in ({"digest": digest, "package": folder}, catalogue["arrivals"]) * 3:
                server.models.write_text(json.dumps({**catalogue, "arrivals": at}))
                assert client.post("/v2/repository/models/arrivals/load").json() == {"name": "arrivals", "load": True}
                assert at["digest"] in client.get("/metrics").text
            server.models.write_text(json.dumps({**catalogue, "arrivals": {"digest": digest, "package": "/nowhere"}}))
            refused = client.post("/v2/repository/models/arrivals/load")
            assert (refused.status_code, "/nowhere" in refused.json()["error"]) == (503, True)
    finally:
        server.models.write_text(json.dumps(catalogue))
        stop.set()
        for thread in threads:
            thread.join()
    assert (bad, seen) == ([], {1.0, 7.0})


def test_unload_and_load_again(server: Any) -> None:
    with server.client() as client:
        assert client.post("/v2/repository/models/other/unload").status_code == 200
        assert client.post("/v1/models/other:predict", json={"instances": [[1, 2, "UA"]]}).status_code == 404
        assert client.post("/v2/repository/models/other/unload").status_code == 404
        assert client.post("/v2/repository/models/arrivals/unload").status_code == 200
        for path in ("/v2/health/ready", "/readyz"):
            assert client.get(path).status_code == 503
        for name in ("arrivals", "other"):
            assert client.post(f"/v2/repository/models/{name}/load").status_code == 200
        assert client.post("/v2/repository/models/nobody/load").status_code == 404
        assert client.get("/v2/health/ready").json() == {"ready": True}


def test_metrics_count(server: Any) -> None:
    with server.client() as client:
        name = 'ninefold_model_instances_total{model_name="other"}'
        before = _metric(client, name)
        client.post("/v1/models/other:predict", json={"instances": [[1, 2, "UA"]] * 3})
        assert _metric(client, name) == before + 3
        counted = _metric(client, 'ninefold_model_requests_total{code="200",model_name="other"}')
        assert _metric(client, 'ninefold_model_request_seconds_bucket{le="+Inf",model_name="other"}') >= counted >= 1


def _metric(client: httpx.Client, name: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(name)), 0.0)


def _refusal(arguments: list[str], home: Path) -> tuple[int, str]:
    child = subprocess.run(
        [sys.executable, "-m", "serving.model_server", *arguments],
        capture_output=True, text=True, check=False, timeout=30, env={**os.environ, "NINEFOLD_HOME": str(home)},
    )  # fmt: skip
    return child.returncode, child.stderr


def test_one_byte_changed_is_refused_in_one_line(packages: Packages, tmp_path: Path) -> None:
    digest, folder = packages(1.0)
    copy = tmp_path / "package"
    copy.mkdir()
    for file in Path(folder).iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    model = bytearray((copy / "model.onnx").read_bytes())
    model[len(model) // 2] ^= 1
    (copy / "model.onnx").write_bytes(model)
    code, said = _refusal(["--package", str(copy), "--digest", digest, "--name", "m", "--port", "0"], tmp_path)
    assert (code, len(said.splitlines())) == (1, 1)
    assert "model.onnx" in said
    assert "Traceback" not in said


def test_a_port_in_use_is_one_line(server: Any, packages: Packages, tmp_path: Path) -> None:
    digest, folder = packages(1.0)
    port = server.url.rpartition(":")[2]
    code, said = _refusal(["--package", folder, "--digest", digest, "--name", "m", "--port", port], tmp_path)
    assert (code, len(said.splitlines()), f":{port}" in said) == (2, 1, True)


def test_without_keys_it_does_not_listen_to_strangers(packages: Packages, tmp_path: Path) -> None:
    digest, folder = packages(1.0)
    arguments = ["--package", folder, "--digest", digest, "--name", "m", "--port", "0", "--host", "0.0.0.0"]
    code, said = _refusal(arguments, tmp_path)
    assert (code, "--keys" in said) == (2, True)


def test_zz_sigterm_drains(server: Any) -> None:
    """Last, because it ends the server: what is open is answered, the process ends with 0."""
    answers: list[int] = []

    def slow_body() -> Any:
        yield b'{"instances": [[1, 2, '
        time.sleep(0.8)
        yield b'"UA"]]}'

    def ask_slowly() -> None:
        with server.client() as client:
            answers.append(client.post(PREDICT, content=slow_body()).status_code)

    thread = threading.Thread(target=ask_slowly)
    thread.start()
    time.sleep(0.4)
    assert server.stop() == 0
    thread.join()
    assert answers == [200]
