"""An application on the cluster: a pod that asks through the gateway, so tests need no way into the cluster."""

from __future__ import annotations

import json
from typing import Any

from images_on_cluster import ours
from kubectl import kubectl, wait_until

NAMESPACE = "ninefold-e2e"
POD = "client"

_ASK = """
import json, sys, threading, time
from collections import Counter
import httpx

told = json.loads(sys.argv[1])
seen, sides, errors, lock = Counter(), {}, Counter(), threading.Lock()
ends = time.monotonic() + told["seconds"]
left = [told["requests"]]

def ask(number):
    flight, client = number, httpx.Client(headers=told["headers"], timeout=20)
    while time.monotonic() < ends:
        with lock:
            if left[0] <= 0:
                break
            left[0] -= 1
        flight = flight + told["askers"] if flight < 3000 else 1 + number
        try:
            varied = {told["vary"]: flight} if told["vary"] else {}
            answer = client.post(told["url"], json={"instances": [{**told["instance"], **varied}]})
        except httpx.TransportError as error:
            with lock:
                errors[type(error).__name__ + ": " + str(error)[:80]] += 1
            continue
        with lock:
            if answer.status_code != 200:
                errors[f"{answer.status_code}: {answer.text[:120]}"] += 1
                continue
            found = answer.json()["predictions"][0]
            if isinstance(found, dict):
                seen[f"version {found['version']}"] += 1
                seen[f"cohort {found['cohort']}"] += 1
                seen[f"fallback {found['fallback']}"] += 1
                sides.setdefault(str(flight), set()).add(found["cohort"])
            seen["answered"] += 1
            if by := answer.headers.get("x-ninefold-version"):
                seen[f"by {by}"] += 1
        if told["pause"]:
            time.sleep(told["pause"])

threads = [threading.Thread(target=ask, args=(n,)) for n in range(told["askers"])]
[t.start() for t in threads]
[t.join() for t in threads]
print(json.dumps({"seen": seen, "errors": errors, "sides": {k: sorted(v) for k, v in sides.items()}}))
"""


def start() -> None:
    """Makes the pod."""
    kubectl("create", "namespace", NAMESPACE, check=False)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": POD, "namespace": NAMESPACE},
        "spec": {
            "containers": [
                {
                    "name": POD,
                    "image": ours("serving"),
                    "imagePullPolicy": "IfNotPresent",
                    "args": ["-c", "import time; time.sleep(86400)"],
                }
            ],
            "terminationGracePeriodSeconds": 1,
        },
    }
    kubectl("delete", "pod", POD, "--namespace", NAMESPACE, "--ignore-not-found", "--force", "--grace-period=0")
    kubectl("apply", "--filename=-", given=json.dumps(pod))
    kubectl("--namespace", NAMESPACE, "wait", f"pod/{POD}", "--for=condition=Ready", "--timeout=120s", seconds=130)


def run(script: str, *arguments: str, seconds: float = 300) -> str:
    """Runs Python in the pod."""
    return kubectl("--namespace", NAMESPACE, "exec", POD, "--", "python", "-c", script, *arguments, seconds=seconds)


def ask(
    url: str,
    instance: dict[str, Any],
    *,
    headers: dict[str, str],
    requests: int = 10**9,
    seconds: float = 60,
    askers: int = 4,
    vary: str = "flight",
    pause: float = 0.0,
) -> dict[str, Any]:
    """Asks until so many requests were sent or so many seconds went by; what came back, counted.

    Returns:
        ``seen`` (``version 1``, ``cohort live``, ``fallback None``, ``by 1``, ``answered`` → count), ``errors`` (words
        → count), ``sides`` (value of the varied field → cohorts it was answered in).
    """
    told = {
        "url": url, "instance": instance, "headers": headers, "requests": requests, "seconds": seconds,
        "askers": askers, "vary": vary, "pause": pause,
    }  # fmt: skip
    found: dict[str, Any] = json.loads(run(_ASK, json.dumps(told), seconds=seconds + 120))
    return found


def wait_answers(url: str, instance: dict[str, Any], headers: dict[str, str], seconds: float = 180) -> dict[str, Any]:
    """Waits until one request is answered, and returns what was seen."""

    def once() -> dict[str, Any] | None:
        found = ask(url, instance, headers=headers, requests=1, seconds=20, askers=1)
        return found if found["seen"].get("answered") else None

    found: dict[str, Any] = wait_until(f"{url} answers", once, seconds)
    return found
