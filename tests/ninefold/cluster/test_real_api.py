"""The same on a real API server: what it applies, refuses and forgets, behind a proxy that fails."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ninefold.cluster.api import ClusterApi
from ninefold.errors import ClusterError, FieldConflict, ObjectChanged, Unavailable
from tests.cluster import Cluster, kubeconfig, namespace
from tests.http_proxy import Fault, Faults, proxy

Apis = Callable[..., ClusterApi]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with namespace(tmp_path_factory.mktemp("cluster")) as found:
        yield found


@pytest.fixture
def faults(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    made = Faults()
    with proxy(cluster.server()[0], made, cluster.server()[1]) as address:
        monkeypatch.setenv("KUBECONFIG", str(cluster.through(address)))
        yield made


@pytest.fixture
def apis(cluster: Cluster, faults: Faults) -> Iterator[Apis]:
    """Makes clients behind the proxy."""
    made: list[ClusterApi] = []

    def api(manager: str = "ninefold-test", patience: float = 20.0) -> ClusterApi:
        made.append(ClusterApi(cluster.namespace, field_manager=manager, patience=patience, timeout=(1.0, 1.0)))
        return made[-1]

    yield api
    for one in made:
        one.close()


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"of": name}}, "data": data}


def times(count: int, fault: Fault, *methods: str) -> Callable[[str, str], Fault]:
    """A fault that strikes so many times."""
    left = [count]

    def answer(method: str, path: str) -> Fault:
        if "/namespaces/" not in path or method not in methods or not left[0]:
            return None
        left[0] -= 1
        return fault

    return answer


def test_what_is_applied_is_owned_and_what_is_left_out_goes(apis: Apis) -> None:
    api = apis()
    made = api.apply(config_map("owned", a="1", b="2"))
    assert made["data"] == {"a": "1", "b": "2"}
    assert (
        api.apply(config_map("owned", a="1", b="2"))["metadata"]["resourceVersion"]
        == (made["metadata"]["resourceVersion"])
    )
    assert api.apply(config_map("owned", a="3"))["data"] == {"a": "3"}
    found = api.get("v1", "ConfigMap", "owned")
    assert found is not None
    assert found["data"] == {"a": "3"}
    assert [item["metadata"]["name"] for item in api.list("v1", "ConfigMap", {"of": "owned"})] == ["owned"]
    assert api.delete("v1", "ConfigMap", "owned") is True
    assert api.delete("v1", "ConfigMap", "owned") is False
    assert api.get("v1", "ConfigMap", "owned") is None


def test_a_dry_run_changes_nothing(apis: Apis) -> None:
    api = apis()
    assert api.apply(config_map("dry", a="1"), dry_run=True)["data"] == {"a": "1"}
    assert api.get("v1", "ConfigMap", "dry") is None


def test_what_somebody_else_set_is_told_and_not_fought_over(cluster: Cluster, apis: Apis) -> None:
    api = apis()
    api.apply(config_map("fought", a="1", b="2"))
    cluster.kubectl("patch", "configmap", "fought", "--field-manager=kubectl-edit", "-p", '{"data": {"a": "by hand"}}')
    with pytest.raises(FieldConflict) as caught:
        api.apply(config_map("fought", a="1", b="2"))
    assert caught.value.managers == {"kubectl-edit": (".data.a",)}
    assert f"ConfigMap fought in namespace {cluster.namespace} was changed by somebody else" in str(caught.value)
    found = api.get("v1", "ConfigMap", "fought")
    assert found is not None
    assert found["data"]["a"] == "by hand"
    # What is not set by us is theirs without a word.
    assert api.apply(config_map("fought", b="3"))["data"] == {"a": "by hand", "b": "3"}
    assert api.apply(config_map("fought", a="1"), force=True)["data"]["a"] == "1"


def test_a_replacement_is_of_what_was_read(apis: Apis) -> None:
    one, other = apis(), apis()
    made = one.create(config_map("replaced", a="1"))
    with pytest.raises(ObjectChanged, match="can't be made"):
        other.create(config_map("replaced", a="2"))
    other.replace({**made, "data": {"a": "2"}})
    with pytest.raises(ObjectChanged, match="can't be replaced"):
        one.replace({**made, "data": {"a": "3"}})
    found = one.get("v1", "ConfigMap", "replaced")
    assert found is not None
    assert found["data"] == {"a": "2"}


@pytest.mark.parametrize("fault", [429, 500, 503, "hang", "cut", "lost"])
def test_a_fault_in_between_loses_nothing(apis: Apis, faults: Faults, fault: Fault) -> None:
    api = apis()
    name = f"fault-{fault}"
    faults.answer = times(2, fault, "PATCH")
    assert api.apply(config_map(name, a="1"))["data"] == {"a": "1"}
    faults.answer = times(2, fault, "GET")
    assert api.get("v1", "ConfigMap", name) is not None
    # The attempt whose answer was lost has deleted it.
    faults.answer = times(1, fault, "DELETE")
    api.delete("v1", "ConfigMap", name)
    assert api.get("v1", "ConfigMap", name) is None


def test_a_lost_answer_of_a_replacement_is_a_conflict_not_a_second_write(apis: Apis, faults: Faults) -> None:
    api = apis()
    made = api.create(config_map("lost", a="1"))
    faults.answer = times(1, "lost", "PUT")
    with pytest.raises(ObjectChanged):
        api.replace({**made, "data": {"a": "2"}})
    found = api.get("v1", "ConfigMap", "lost")
    assert found is not None
    assert found["data"] == {"a": "2"}


def test_an_event_is_told_once_though_its_answer_was_lost(cluster: Cluster, apis: Apis, faults: Faults) -> None:
    api = apis()
    made = api.apply(config_map("told", a="1"))
    faults.answer = times(1, "lost", "POST")
    api.event(made, reason="Tested", message="m" * 2000, warning=True)
    events = [e for e in api.list("v1", "Event") if e["reason"] == "Tested"]
    assert [(e["type"], len(e["message"]), e["involvedObject"]["uid"]) for e in events] == [
        ("Warning", 1024, made["metadata"]["uid"])
    ]
    assert "Tested" in cluster.kubectl("describe", "configmap", "told")


def test_a_server_that_stays_away(apis: Apis, faults: Faults) -> None:
    api = apis(patience=1.0)
    faults.answer = lambda method, path: 503
    with pytest.raises(Unavailable, match="HTTP 503"):
        api.get("v1", "ConfigMap", "x")


class TestRefusals:
    def test_an_unknown_field(self, apis: Apis, faults: Faults) -> None:
        with pytest.raises(ClusterError, match=r"it is not valid: .*dta"):
            apis().apply({**config_map("unknown"), "dta": {"a": "1"}})
        assert [method for method, _ in faults.asked].count("PATCH") == 1

    def test_a_wrong_value(self, apis: Apis) -> None:
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "x"},
            "spec": {"ports": [{"port": 99999}]},
        }
        with pytest.raises(ClusterError, match=r"Service x in .*it is not valid: spec\.ports\[0\]\.port"):
            apis().apply(service)

    def test_a_quota(self, cluster: Cluster, apis: Apis) -> None:
        api = apis()
        quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small"}}
        api.apply({**quota, "spec": {"hard": {"count/secrets": "0"}}})
        for _ in range(100):
            if (api.get("v1", "ResourceQuota", "small") or {}).get("status", {}).get("hard"):
                break
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "x"}}
        with pytest.raises(
            ClusterError, match=r"Secret x .*a quota of the namespace is used up.*raise the ResourceQuota"
        ):
            api.apply(secret)
        api.delete("v1", "ResourceQuota", "small")

    def test_no_right(self, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        cluster.kubectl("create", "serviceaccount", "nobody")
        token = cluster.kubectl("create", "token", "nobody").strip()
        address, context = cluster.server()
        # Without a client certificate the token says who asks.
        anonymous = ssl.create_default_context()
        anonymous.load_verify_locations(cadata="".join(ssl.DER_cert_to_PEM_cert(c) for c in context.get_ca_certs(True)))
        with proxy(address, Faults(), anonymous) as through:
            monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path / "config", through, token)))
            api = ClusterApi(cluster.namespace, field_manager="nobody")
            with pytest.raises(
                ClusterError, match=r"ConfigMap x .*it is forbidden: .*nobody.*Give the service account"
            ):
                api.apply(config_map("x"))
            api.close()

    def test_no_namespace(self, faults: Faults) -> None:
        api = ClusterApi("ninefold-none", field_manager="x")
        with pytest.raises(
            ClusterError, match=r"in namespace ninefold-none can't be applied: .*Make its namespace first"
        ):
            api.apply(config_map("x"))
        api.close()
