"""The supervisor over real stores, routes and processes; its children are tiny programs but for the last test."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from children import runs, wait_until
from pydantic import SecretStr
from rich.console import Console
from tiny_supervisor import Tiny

from ninefold.atomic import replace_file
from ninefold.errors import ConfigurationError, Unavailable, UsageError
from ninefold.loading import load_use_case
from ninefold.package import write_package
from ninefold.routes import read_routes
from ninefold.settings import Gateway, Settings
from ninefold.signature import PackageManifest, Signature
from ninefold.store import Store, open_store
from serving.supervisor.commands import _announce
from serving.supervisor.specs import Specs, settings_environment
from serving.supervisor.state import end_leftovers, read_state
from serving.traffic import desired
from serving.traffic.desired import Model


def live(store: Store, digest: str) -> int:
    version = store.register_version("arrivals", digest, f"/models/{digest}").version
    store.set_state("arrivals", version, "live")
    return version


def test_it_serves_switches_retires_and_restarts(
    configuration: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desired, "GRACE_SECONDS", 0.3)
    live(store, "d1")
    told: list[str] = []
    with Tiny(configuration, "arrivals") as supervisor:
        supervisor.wait_ready(20, told.append)
        table = read_routes(supervisor.routes)
        assert table is not None
        assert (table.live, sorted(table.variants)) == (1, [0, 1])
        assert [httpx.get(f"{v.url}/readyz").status_code for v in table.variants.values()] == [200, 200]
        everything = {"front end", "collector", "rollout", "model 0", "model 1"}
        assert {line.partition(" is")[0] for line in told} <= everything
        state = read_state(configuration.home)
        assert state is not None
        pids = {process.name: process.pid for process in state.processes}
        assert (state.ready, state.live, set(pids)) == (True, 1, everything)

        live(store, "d2")
        wait_until(lambda: (t := read_routes(supervisor.routes)) is not None and t.live == 2)
        wait_until(lambda: not runs(pids["model 1"] or 0))
        newest = read_routes(supervisor.routes)
        assert newest is not None
        assert (sorted(newest.variants), newest.revision > table.revision) == ([0, 2], True)

        os.kill(pids["front end"] or 0, signal.SIGKILL)

        def restarted() -> bool:
            now = read_state(configuration.home)
            return now is not None and any(p.restarts == 1 and p.state == "ready" for p in now.processes)

        wait_until(restarted)
    wait_until(lambda: not any(runs(pid or 0) for pid in pids.values()))


def test_through_the_gateway_versions_are_reached_before_the_front_end_reads_of_them_and_after(
    with_gateway: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desired, "GRACE_SECONDS", 1.0)
    live(store, "d1")
    with Tiny(with_gateway, "arrivals") as supervisor:
        supervisor.wait_ready(20)
        table = read_routes(supervisor.routes)
        assert table is not None
        assert table.gateway is not None

        def direct() -> str | None:
            answer = httpx.get(f"{supervisor.gateway}/v1/models/arrivals")
            return answer.headers.get("x-ninefold-version") if answer.status_code == 200 else None

        def asked(version: int) -> int:
            assert table is not None
            assert table.gateway is not None
            headers = table.gateway.headers(version, "live")
            return httpx.post(f"{table.gateway.url}/v1/models/arrivals:predict", headers=headers).status_code

        assert (direct(), asked(0), asked(1), asked(2)) == ("1", 200, 200, 404)
        live(store, "d2")
        wait_until(lambda: (t := read_routes(supervisor.routes)) is not None and t.live == 2)
        assert (direct(), asked(1), asked(2)) == ("2", 200, 200)
        wait_until(lambda: asked(1) == 404)
        assert asked(2) == 200

        state = read_state(with_gateway.home)
        assert state is not None
        assert state.problem == ""
        gateway = next(process for process in state.processes if process.name == "gateway")
        assert (with_gateway.home / "logs" / "gateway.log").stat().st_mode & 0o077 == 0
        routes = with_gateway.home / "gateway" / "envoy" / "client-routes.json"
        replace_file(routes, b"{broken")
        wait_until(
            lambda: (
                (s := read_state(with_gateway.home)) is not None and f"{routes} is not as it was published" in s.problem
            )
        )
        assert direct() == "2"
        os.kill(gateway.pid or 0, signal.SIGKILL)

        def back() -> bool:
            now = read_state(with_gateway.home)
            return now is not None and any(
                (p.name, p.restarts, p.state) == ("gateway", 1, "ready") for p in now.processes
            )

        wait_until(back)
        assert direct() == "2"
    assert not runs(gateway.pid or 0)


def test_without_an_envoy_the_front_end_is_sent_to_the_models_and_it_is_told(
    configuration: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.supervisor.gateway.find_envoy", lambda: (None, "none on this machine"))
    wanting = configuration.model_copy(update={"gateway": Gateway(use="auto")})
    live(store, "d1")
    with Tiny(wanting, "arrivals") as supervisor:
        supervisor.wait_ready(20)
        table = read_routes(supervisor.routes)
        state = read_state(wanting.home)
    assert table is not None
    assert state is not None
    assert (table.gateway, table.live) == (None, 1)
    assert (state.without_gateway, supervisor.without_gateway) == ("none on this machine", "none on this machine")
    with pytest.raises(ConfigurationError, match="no Envoy for the gateway: none on this machine"):
        Tiny(configuration.model_copy(update={"gateway": Gateway(use="always")}), "arrivals").start()


def test_up_says_what_is_missing_without_a_gateway(configuration: Settings) -> None:
    output = io.StringIO()
    _announce(Console(file=output, width=1000), Tiny(configuration, "arrivals"), "none on this machine")
    assert "No gateway (none on this machine): the front end asks the model servers directly." in output.getvalue()
    assert "weights between versions, limits and retries" in output.getvalue()


@pytest.mark.parametrize("port", ["gateway", "gateway_inner"])
def test_a_port_of_the_gateway_in_use_is_named(with_gateway: Settings, store: Store, port: str) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", getattr(with_gateway.ports, port)))
        listener.listen()
        with pytest.raises(ConfigurationError, match=f"NINEFOLD_PORTS__{port.upper()}"):
            Tiny(with_gateway, "arrivals").start()


def test_a_version_that_does_not_start_leaves_the_old_one_answering(configuration: Settings, store: Store) -> None:
    live(store, "d1")
    with Tiny(configuration, "arrivals", model_only=True) as supervisor:
        supervisor.wait_ready(20)
        supervisor.specs.broken = frozenset({"model 2"})
        live(store, "d2")

        def looping() -> bool:
            state = read_state(configuration.home)
            return state is not None and any(
                p.state == "crash loop" and p.last_line == "this package is damaged" for p in state.processes
            )

        wait_until(looping)
        table = read_routes(supervisor.routes)
        assert table is not None
        assert table.live == 1
        assert httpx.get(f"{table.variants[1].url}/readyz").status_code == 200


def test_what_never_starts_is_named_with_its_last_words(configuration: Settings, store: Store) -> None:
    supervisor = Tiny(configuration, "arrivals")
    supervisor.specs.broken = frozenset({"collector"})
    with supervisor, pytest.raises(Unavailable, match="collector does not start: this package is damaged"):
        supervisor.wait_ready(20)


def test_what_fails_within_it_ends_its_children_and_is_told(configuration: Settings, store: Store) -> None:
    supervisor = Tiny(configuration, "arrivals", model_only=True)
    with supervisor:
        supervisor.wait_ready(20)
        children = [child.process.pid for child in supervisor._children() if child.process is not None]
        supervisor._models.advance = lambda *_: 1 / 0  # type: ignore[method-assign,assignment]
        with pytest.raises(Unavailable, match="ZeroDivisionError"):
            supervisor.wait(20)
    assert children
    assert not any(runs(pid) for pid in children)


def test_a_second_one_says_so_and_a_dead_ones_children_are_ended(configuration: Settings, store: Store) -> None:
    with Tiny(configuration, "arrivals", model_only=True) as supervisor:
        supervisor.wait_ready(20)
        with pytest.raises(ConfigurationError, match="served already"):
            Tiny(configuration, "arrivals", model_only=True).start()
        assert end_leftovers(configuration.home) == []
        state = read_state(configuration.home)
        assert state is not None
        # As if the supervisor were gone: another number's start.
        document = json.loads((configuration.home / "run" / "supervisor.json").read_text())
        stranger = {**document["processes"][0], "name": "stranger", "pid": os.getpid(), "born": 1.0}
        document |= {"born": 1.0, "processes": [*document["processes"], stranger]}
        supervisor._write_state = lambda **_: None  # type: ignore[method-assign]
        (configuration.home / "run" / "supervisor.json").write_text(json.dumps(document))
        assert end_leftovers(configuration.home) == ["model 0"]


def test_a_port_in_use_is_named_before_anything_starts(configuration: Settings, store: Store) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", configuration.ports.front_end))
        listener.listen()
        with pytest.raises(ConfigurationError, match=str(configuration.ports.front_end)):
            Tiny(configuration, "arrivals").start()
    assert read_state(configuration.home) is None


def test_model_only_needs_a_version(configuration: Settings) -> None:
    configuration.home.mkdir()
    with pytest.raises(UsageError, match="ninefold run training arrivals"):
        Tiny(configuration, "arrivals", model_only=True).start()


def test_a_taken_model_port_is_replaced_by_a_free_one(configuration: Settings, store: Store) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", configuration.ports.models_from))
        listener.listen()
        made = Tiny(configuration, "arrivals").specs.model(Model(0, "d0", "/models/d0"), ())
    assert made.port != configuration.ports.models_from


def test_the_controller_of_rollouts_runs_by_the_wall_clock_alone(configuration: Settings) -> None:
    by_wall = Specs(configuration, "arrivals", "arrivals", {}).services()
    assert [spec.name for spec in by_wall] == ["front end", "collector", "rollout"]
    assert by_wall[-1].command[1:] == ("-m", "serving.rollout", "--use-case", "arrivals")
    replayed = configuration.model_copy(update={"clock": "event"})
    assert [spec.name for spec in Specs(replayed, "arrivals", "arrivals", {}).services()] == ["front end", "collector"]


def test_children_read_the_same_settings(configuration: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    serving = configuration.serving.model_copy(update={"model_key": SecretStr("told once")})
    changed = configuration.model_copy(update={"clock": "event", "serving": serving})
    for name, value in settings_environment(changed).items():
        monkeypatch.setenv(name, value)
    assert Settings() == changed


def test_children_import_the_same_from_another_folder(
    configuration: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(("team", "/lib/python", ".")))
    paths = settings_environment(configuration)["PYTHONPATH"].split(os.pathsep)
    assert paths == [str(tmp_path / "team"), "/lib/python", str(tmp_path)]


def test_up_status_down_with_the_real_services(with_gateway: Settings, tmp_path: Path) -> None:
    configuration = with_gateway
    use_case = load_use_case("arrivals")
    signature = Signature(
        use_case="arrivals", problem=use_case.problem, inputs=use_case.inputs, views=use_case.feature_views(),
        derive_digest=use_case.derive_digest, target=use_case.target.name,
    )  # fmt: skip
    baseline = {"path": use_case.baseline_path, "digest": use_case.baseline_digest}
    manifest = PackageManifest(format="baseline", signature=signature, statistics={}, baseline=baseline)
    configuration.home.mkdir()
    digest, uri = write_package(configuration.models_url, manifest, {})
    with contextlib.closing(open_store(configuration.store_url)) as opened:
        opened.register_version("arrivals", digest, uri, version=0)
    environment = {**os.environ, **settings_environment(configuration), "COLUMNS": "200"}

    def ninefold(*arguments: str, folder: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(Path(sys.executable).with_name("ninefold")), *arguments],
            env=environment, cwd=folder, capture_output=True, text=True, timeout=150, check=False,
        )  # fmt: skip

    assert ninefold("status").returncode == 1
    started = ninefold("up", "arrivals", "--detach")
    try:
        assert started.returncode == 0, started.stderr
        curl = next(line.strip() for line in started.stdout.splitlines() if "curl" in line)
        asked = subprocess.run(["sh", "-c", curl], capture_output=True, text=True, check=True)
        answer = json.loads(asked.stdout)["predictions"][0]
        assert (answer["version"], answer["fallback"]) == (0, None)
        again = ninefold("up", "arrivals")
        assert (again.returncode, "served already" in again.stderr) == (2, True)
        shown = json.loads(ninefold("status", "--json", folder=Path("/")).stdout)
        rows = {row["name"]: row for row in shown["processes"]}
        assert (shown["live"], set(rows)) == (0, {"front end", "collector", "rollout", "gateway", "model 0"})
        assert all(row["ready"] for row in rows.values())
        assert (shown["rollout"], rows["rollout"]["port"], rows["rollout"]["predictions"]) == (None, None, None)
        assert (rows["front end"]["predictions"], rows["model 0"]["predictions"]) == (1, 1)
        inner = httpx.get(f"http://127.0.0.1:{configuration.ports.gateway}/metrics").text
        assert 'envoy_cluster_upstream_rq_total{envoy_cluster_name="inner-v0"} 1\n' in inner
        assert shown["shares"] == [{"version": 0, "configured": 1.0, "observed": None, "requests": 0}]
        assert "Direct clients: version 0 100.0% by weight (0 requests)" in ninefold("status").stdout
    finally:
        stopped = ninefold("down", folder=Path("/"))
    assert (stopped.returncode, stopped.stdout.strip()) == (
        0,
        "Stopped front end, collector, rollout, gateway, model 0.",
    )
    assert ninefold("down").stdout.startswith("Nothing runs")
    with contextlib.closing(open_store(configuration.store_url)) as opened:
        assert [p.prediction_id for p in opened.predictions("arrivals")] == [answer["prediction_id"]]
