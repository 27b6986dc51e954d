"""What the API server refuses for the moment is asked again, and everything else is told in one line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from ninefold.cluster.api import ClusterApi
from ninefold.errors import ClusterError, ConfigurationError, FieldConflict, ObjectChanged, Unavailable
from tests.cluster import kubeconfig
from tests.http_proxy import Fault, Faults, proxy

CONFIG_MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"a": "1"}}


class Server:
    """An API server that answers from a list, and what it says of its kinds."""

    def __init__(self) -> None:
        self.faults = Faults(answer=self._next)
        self.answers: list[tuple[Fault, object]] = []

    def _next(self, method: str, path: str) -> Fault:
        if path in ("/api/v1", "/apis/serving.kserve.io/v1beta1"):
            status: Fault = 200 if path == "/api/v1" else 404
            answer: object = {"resources": [{"name": "configmaps", "kind": "ConfigMap", "namespaced": True}]}
        else:
            status, answer = self.answers.pop(0)
        self.faults.body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        return status

    @property
    def asked(self) -> list[str]:
        return [method for method, path in self.faults.asked if "/namespaces/" in path]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    found = Server()
    with proxy("", found.faults) as address:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "config", address, token="secret")))
        yield found


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def api(server: Server, pauses: list[float]) -> Iterator[ClusterApi]:
    made = ClusterApi("ns", field_manager="test", patience=8.0, timeout=(0.3, 0.3), pause=pauses.append)
    yield made
    made.close()


@pytest.mark.parametrize("fault", [429, 500, 502, 503, 504, 408, "hang"])
def test_what_may_pass_is_asked_again(server: Server, api: ClusterApi, pauses: list[float], fault: Fault) -> None:
    server.answers = [(fault, {}), (fault, {}), (200, CONFIG_MAP)]
    assert api.apply(CONFIG_MAP) == CONFIG_MAP
    assert server.asked == ["PATCH"] * 3
    assert pauses == sorted(pauses)
    assert 0.1 <= pauses[0] <= 0.2


def test_the_server_says_how_long_to_wait_within_bounds(server: Server, api: ClusterApi, pauses: list[float]) -> None:
    server.faults.headers = {"Retry-After": "2"}
    server.answers = [(429, {}), (200, CONFIG_MAP)]
    api.apply(CONFIG_MAP)
    assert pauses == [2.0]
    server.faults.headers = {"Retry-After": "86400"}
    server.answers = [(429, {}), (200, CONFIG_MAP)]
    api.apply(CONFIG_MAP)
    assert pauses == [2.0, 5.0]


def test_patience_has_an_end(tmp_path: Path, server: Server) -> None:
    api = ClusterApi("ns", field_manager="test", patience=0.3, pause=lambda _: None)
    server.answers = [(503, b"<html>upstream is away</html>")] * 10_000
    with pytest.raises(Unavailable) as caught:
        api.get("v1", "ConfigMap", "x")
    words = str(caught.value)
    assert "gave no answer to GET /api/v1/namespaces/ns/configmaps/x within 0.3 seconds: HTTP 503" in words
    assert "upstream is away" in words
    assert "kubectl get --raw /readyz" in words


def test_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "config", "http://127.0.0.1:9")))
    api = ClusterApi("ns", field_manager="test", patience=0.3)
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:9 gave no answer.*refused"):
        api.get("v1", "ConfigMap", "x")


@pytest.mark.parametrize("content", [None, "not: [yaml", "apiVersion: v1\nkind: Config\n"])
def test_no_cluster_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None) -> None:
    path = tmp_path / "config"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("KUBECONFIG", str(path))
    with pytest.raises(ConfigurationError, match="Set KUBECONFIG to a file that kubectl can use"):
        ClusterApi("ns", field_manager="test")


class TestRefusals:
    def test_another_manager_owns_the_fields(self, server: Server, api: ClusterApi) -> None:
        causes = [
            {"reason": "FieldManagerConflict", "message": f'conflict with "{by}" using v1', "field": path}
            for by, path in (("kubectl-edit", ".data.a"), ("kubectl-edit", ".data.b"), ("argo", ".metadata.labels.x"))
        ]
        server.answers = [(409, {"message": "Apply failed", "details": {"causes": causes}})]
        with pytest.raises(FieldConflict) as caught:
            api.apply(CONFIG_MAP)
        assert caught.value.managers == {"kubectl-edit": (".data.a", ".data.b"), "argo": (".metadata.labels.x",)}
        assert str(caught.value).startswith(
            "ConfigMap x in namespace ns was changed by somebody else: kubectl-edit owns .data.a, .data.b; argo owns"
        )
        assert server.asked == ["PATCH"]

    @pytest.mark.parametrize(
        ("status", "message", "words"),
        [
            (401, "Unauthorized", "does not know who asks (HTTP 401). Renew the credentials"),
            (
                403,
                'User "u" cannot patch resource',
                'it is forbidden: User "u" cannot patch resource. Give the service',
            ),
            (403, "exceeded quota: small, requested: 1", "a quota of the namespace is used up: exceeded quota: small"),
            (404, 'namespaces "ns" not found', 'namespaces "ns" not found. Make its namespace first'),
            (
                400,
                'strict decoding error: unknown field "dta"',
                "it is not valid: strict decoding error: unknown field",
            ),
            (
                400,
                'admission webhook "v" denied the request: update rejected: deploymentMode cannot be changed from '
                "'Knative' to 'Standard'",
                "it is there in another mode of KServe, and keeps it",
            ),
            (418, "teapot", "HTTP 418: teapot"),
        ],
    )
    def test_each_names_the_resource_the_condition_and_the_remedy(
        self, server: Server, api: ClusterApi, status: int, message: str, words: str
    ) -> None:
        server.answers = [(status, {"message": message})]
        with pytest.raises(ClusterError) as caught:
            api.apply(CONFIG_MAP)
        assert "ConfigMap x in namespace ns can't be applied: " in str(caught.value)
        assert words in str(caught.value)
        assert server.asked == ["PATCH"]

    def test_invalid_fields_are_named(self, server: Server, api: ClusterApi) -> None:
        causes = [{"reason": "FieldValueInvalid", "message": "must be small", "field": "data.a"}]
        server.answers = [(422, {"message": "long words", "details": {"causes": causes}})]
        with pytest.raises(ClusterError, match=r"it is not valid: data\.a: must be small\."):
            api.apply(CONFIG_MAP)

    def test_a_kind_that_the_cluster_does_not_know(self, server: Server, api: ClusterApi) -> None:
        with pytest.raises(ClusterError, match=r"knows no InferenceService of serving.*Install KServe"):
            api.get("serving.kserve.io/v1beta1", "InferenceService", "x")
        with pytest.raises(ClusterError, match="knows no Widget of v1"):
            api.get("v1", "Widget", "x")

    def test_replacing_by_an_old_version(self, server: Server, api: ClusterApi) -> None:
        server.answers = [(409, {"message": "the object has been modified"})]
        with pytest.raises(ObjectChanged, match="Read it again"):
            api.replace({**CONFIG_MAP, "metadata": {"name": "x", "resourceVersion": "1"}})
        with pytest.raises(ValueError, match="resourceVersion"):
            api.replace(CONFIG_MAP)


def test_what_is_not_there(server: Server, api: ClusterApi) -> None:
    server.answers = [(404, {}), (404, {}), (200, {})]
    assert api.get("v1", "ConfigMap", "x") is None
    assert api.delete("v1", "ConfigMap", "x") is False
    assert api.list("v1", "ConfigMap", {"a": "b"}) == []
    assert server.faults.asked[-1][1] == "/api/v1/namespaces/ns/configmaps?labelSelector=a%3Db"
