"""Checks of the loop through containers: a training seeds a home, its version is served, answers are kept."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from images.engine import ImagesError
from images.pod import HOME, Ended, Pod, get, post
from images.speed import starts_within

T = TypeVar("T")

USE_CASE = "churn"
SECONDS = {"front end": 2.0, "collector": 2.0, "model server": 6.0}
"""How soon after its container's start a program has to answer."""

_VERSIONS = f"""
import json
from ninefold.settings import settings
from ninefold.store import open_store
newest = max(open_store(settings().store_url).versions("{USE_CASE}"), key=lambda v: v.version)
print(json.dumps([newest.version, newest.uri, newest.digest]))
"""
_ROUTES = f"""
import sys
from ninefold.routes import RouteTable, Variant, write_routes
from ninefold.settings import settings
version, url, package, digest = int(sys.argv[1]), *sys.argv[2:]
variant = Variant(version=version, url=url, package=package, digest=digest)
table = RouteTable(use_case="{USE_CASE}", revision=1, live=version, variants={{version: variant}})
write_routes(settings().home / "gateway" / "{USE_CASE}.json", table)
"""
_KEPT = """
import json, sqlite3, sys
rows = sqlite3.connect(sys.argv[1]).execute("select prediction_id from predictions")
print(json.dumps([row[0] for row in rows]))
"""


class Loop:
    """One home and what serves from it.

    Args:
        pod: Runs the containers.
        names: Target → image.
    """

    def __init__(self, pod: Pod, names: Mapping[str, str]) -> None:
        self.pod, self.serving, self.pipeline = pod, names["serving"], names["pipeline"]
        self.front_end_port, self.collector_port, self.model_port = pod.free
        self.key = self.model_key = ""
        self.version, self.package, self.digest = 0, "", ""
        self.answered: set[str] = set()

    # What serves has the settings of a cluster, which refuses every secret that nobody set.
    def _environment(self) -> dict[str, str]:
        return {"NINEFOLD_ENVIRONMENT": "cluster", "NINEFOLD_SERVING__MODEL_KEY": self.model_key}

    def seed(self) -> str:
        """Trains and releases."""
        began = time.monotonic()
        command = ["-m", "ninefold", "run", "training", USE_CASE, "--max-training-time", "10"]
        ended = self.pod.run(self.pipeline, command)
        assert ended.code == 0, ended.output[-800:]
        found = self.python(_VERSIONS)
        self.version, self.package, self.digest = json.loads(found)
        self.key, self.model_key = (self._make_key(name) for name in ("client", "front-end"))
        self.python(_ROUTES, str(self.version), f"http://127.0.0.1:{self.model_port}", self.package, self.digest)
        return f"version {self.version} in {time.monotonic() - began:.0f} s"

    def _make_key(self, name: str) -> str:
        ended = self.pod.run(self.serving, ["-m", "ninefold", "key", "create", name])
        assert ended.code == 0, ended.output
        return next(word for word in ended.output.split() if word.startswith("nf_"))

    def python(self, code: str, *arguments: str) -> str:
        """What code prints that runs in a container of the serving image, with the home."""
        ended = self.pod.run(self.serving, ["-c", code, *arguments])
        assert ended.code == 0, ended.output[-800:]
        return ended.output.strip()

    def start_model_server(self) -> str:
        """Starts it and returns its container."""
        return self.pod.start(
            "model-server", self.serving, self.model_server(self.digest), environment=self._environment()
        )

    def model_server(self, digest: str) -> list[str]:
        """Its arguments."""
        return ["-m", "serving.model_server", f"--package={self.package}", f"--digest={digest}", f"--name={USE_CASE}",
                "--host=0.0.0.0", f"--port={self.model_port}", f"--keys={HOME}/keys.json"]  # fmt: skip

    def start_front_end(self) -> str:
        """Starts it and returns its container."""
        command = ["-m", "serving.front_end", "--use-case", USE_CASE, "--port", str(self.front_end_port)]
        return self.pod.start("front-end", self.serving, command, environment=self._environment())

    def start_collector(self) -> str:
        """Starts it and returns its container."""
        command = ["-m", "serving.collector", "--use-case", USE_CASE, "--port", str(self.collector_port)]
        return self.pod.start("collector", self.serving, command, environment=self._environment())

    def predict(self, customer: int = 1) -> dict[str, Any]:
        """One prediction."""
        path = f"/v1/models/{USE_CASE}:predict"
        status, body = post(self.front_end_port, path, {"instances": [{"customer_id": customer}]}, self.key)
        assert status == 200, f"{status}: {body}"
        prediction: dict[str, Any] = body["predictions"][0]
        self.answered.add(prediction["prediction_id"])
        return prediction

    def answers(self) -> str:
        """Predictions through the containers, with the right keys and without."""
        while get(self.front_end_port, "/readyz")[0] != 200:
            time.sleep(0.1)
        prediction = _within(30, self.predict, lambda p: p["fallback"] is None)
        assert prediction["version"] == self.version, f"version {prediction['version']} answered"
        for key in ("", "nf_wrong"):
            status, _ = post(self.front_end_port, f"/v1/models/{USE_CASE}:predict", {"instances": []}, key)
            assert status == 401, f"with the key {key!r} the front end answered {status}"
            status, _ = post(self.model_port, f"/v1/models/{USE_CASE}:predict", {"instances": []}, key)
            assert status == 401, f"with the key {key!r} the model server answered {status}"
        truth = {"key": {"customer_id": 1}, "value": 0}
        status, body = post(self.collector_port, "/v1/truths", truth, self.key)
        assert status == 200, f"the collector answered {status}: {body}"
        return f"version {prediction['version']} says {prediction['prediction']:.3f}"

    def health(self) -> str:
        """Health checks of all three, as the engine runs them; a stopped program is unhealthy."""
        command = ("python", "-I", "-S", "/opt/ninefold/code/bin/health.py")
        for role in ("front-end", "collector", "model-server"):
            self.pod.inside(f"{self.pod.name}-{role}", *command)
        container = f"{self.pod.name}-collector"
        self.pod.engine.ask("kill", "--signal=STOP", container)
        try:
            self.pod.inside(container, *command)
        except ImagesError:
            pass
        else:
            raise AssertionError("a program that is stopped counts as healthy")
        finally:
            self.pod.engine.ask("kill", "--signal=CONT", container)
        return ""

    def model_server_dies(self) -> str:
        """Without a model server predictions go on by the baseline, and say so; with it they come back."""
        self.pod.engine.ask("kill", f"{self.pod.name}-model-server")
        reason = _within(10, self.predict, lambda p: p["fallback"] is not None)["fallback"]
        container = self.start_model_server()
        self.pod.seconds_until_answer(container, self.model_port)
        _within(30, self.predict, lambda p: p["fallback"] is None)
        return f"meanwhile: {reason}"

    def front_end_drains(self) -> str:
        """SIGTERM under load: whoever was let in gets an answer, and every answer is kept."""
        container = f"{self.pod.name}-front-end"
        before, broken, over = len(self.answered), [], threading.Event()

        def ask() -> None:
            while not over.is_set():
                try:
                    self.predict()
                except ConnectionRefusedError:
                    return
                except (OSError, AssertionError) as error:
                    broken.append(repr(error))
                    return

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(1.0)
        self.pod.engine.ask("stop", "--time=45", container)
        over.set()
        for thread in threads:
            thread.join()
        code = self.pod.engine.ask("inspect", "--format={{.State.ExitCode}}", container)
        # A connection that the kernel had taken and the program had not is reset: nobody was answered, nothing is lost.
        too_late = ("ConnectionResetError", "BrokenPipeError", "RemoteDisconnected")
        lost = [error for error in broken if not any(name in error for name in too_late)]
        assert not lost, f"{len(lost)} requests broke: {lost[0]}"
        assert code == "0", f"it ended with {code}: {self.pod.logs(container)[-300:]}"
        self._all_kept()
        return f"{len(self.answered) - before} answers, all kept; {len(broken)} connections too late"

    def front_end_is_killed(self) -> str:
        """SIGKILL under load: the next container ships what the last one had answered."""
        self.pod.seconds_until_answer(self.start_front_end(), self.front_end_port)
        before = len(self.answered)
        for customer in range(1, 41):
            self.predict(customer)
        self.pod.engine.ask("kill", f"{self.pod.name}-front-end")
        self.pod.seconds_until_answer(self.start_front_end(), self.front_end_port)
        self.predict()
        _within(20, self._missing, lambda missing: not missing)
        return f"{len(self.answered) - before} answers, all kept"

    def _missing(self) -> set[str]:
        return self.answered - set(json.loads(self.python(_KEPT, f"{HOME}/store.db")))

    def _all_kept(self) -> None:
        missing = self._missing()
        assert not missing, f"{len(missing)} answers are not in the store"

    def wrong_digest(self) -> str:
        """A package that is not the expected one is not served."""
        wrong = self.digest[:-4] + ("0000" if not self.digest.endswith("0000") else "1111")
        self.pod.engine.ask("kill", f"{self.pod.name}-model-server")
        return _one_line(
            self.pod.run(self.serving, self.model_server(wrong), environment=self._environment()), "digest"
        )

    def no_secret(self) -> str:
        """On a cluster nothing starts by a secret that nobody set."""
        command = ["-m", "serving.front_end", "--use-case", USE_CASE, "--port", "0"]
        return _one_line(
            self.pod.run(self.serving, command, environment={"NINEFOLD_ENVIRONMENT": "cluster"}),
            "NINEFOLD_SERVING__MODEL_KEY",
        )

    def no_volume(self) -> str:
        """Without a home that can be written a program says so in one line."""
        command = ["-m", "ninefold", "key", "create", "somebody"]
        return _one_line(self.pod.run(self.serving, command, volume=False), HOME)

    def other_user(self) -> str:
        """A user of the platform's choice in group 0 works with an empty home; one without rights is told."""
        volume = f"{self.pod.name}-other"
        self.pod.engine.ask("volume", "create", volume)
        command = ["-m", "ninefold", "key", "create", "somebody"]
        try:
            ended = self.pod.run(self.serving, command, user="12345:0", volume=volume)
            assert ended.code == 0, ended.output[-400:]
            return _one_line(self.pod.run(self.serving, command, user="54321:54321", volume=volume), HOME)
        finally:
            self.pod.engine.ask("volume", "rm", "--force", volume)


def loop_checks(pod: Pod, names: Mapping[str, str]) -> Iterator[tuple[str, Callable[[], str]]]:
    """Pairs of a title and a check; each relies on those before it."""
    loop = Loop(pod, names)
    yield "a training in the pipeline image releases a version", loop.seed
    if not loop.model_key:
        yield "what is served from it", _nothing_to_serve
        return
    for what, start, port in (
        ("model server", loop.start_model_server, loop.model_port),
        ("front end", loop.start_front_end, loop.front_end_port),
        ("collector", loop.start_collector, loop.collector_port),
    ):
        yield f"the {what} answers within {SECONDS[what]:g} s", starts_within(pod, start, port, SECONDS[what])
    yield "predictions and truths go through the containers", loop.answers
    yield "health checks tell a program that answers from one that hangs", loop.health
    yield "a model server is killed: the baseline answers meanwhile", loop.model_server_dies
    yield "SIGTERM drains the front end", loop.front_end_drains
    yield "a killed front end loses no answer", loop.front_end_is_killed
    yield "a wrong digest is refused", loop.wrong_digest
    yield "no default secret on a cluster", loop.no_secret
    yield "no volume", loop.no_volume
    yield "another user", loop.other_user


def _nothing_to_serve() -> str:
    raise ImagesError("nothing was tried, because no version was released")


def _within(seconds: float, ask: Callable[[], T], good: Callable[[T], bool]) -> T:
    end = time.monotonic() + seconds
    while True:
        found = ask()
        if good(found):
            return found
        assert time.monotonic() < end, f"after {seconds:g} s it was still {str(found)[:300]}"
        time.sleep(0.1)


def _one_line(ended: Ended, word: str) -> str:
    """What a program said that could not start: one line with a word in it, and no success."""
    said = ended.output.strip()
    assert ended.code != 0, f"it ended well: {said[-300:]}"
    assert len(said.splitlines()) == 1, f"it said: {said[-500:]}"
    assert word in said, f"it said: {said}"
    return said
