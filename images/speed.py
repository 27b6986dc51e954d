"""How soon a program answers after its container's start."""

from __future__ import annotations

import os
from collections.abc import Callable

from images.pod import Pod

TRIES = 3


def is_busy() -> bool:
    """Whether others use so much of this machine that seconds say little of a program's own speed."""
    return os.getloadavg()[0] > (os.cpu_count() or 1)


def starts_within(pod: Pod, start: Callable[[], str], port: int, bound: float) -> Callable[[], str]:
    """A check: the program answers within ``bound`` seconds of its container's start, the best of three times.

    On a busy machine, where others' work is in every second, the seconds of processors that it used until then count;
    what is printed says so.

    Args:
        pod: Runs the containers.
        start: Starts it and returns its container.
        port: Where it answers.
        bound: Seconds.
    """

    def check() -> str:
        tries = []
        for _ in range(TRIES):
            container = start()
            waited = pod.seconds_until_answer(container, port)
            tries.append((waited, pod.processor_seconds(container)))
        waited, used = min(tries)
        told = f"{waited:.2f} s, of which {used:.2f} s on a processor"
        if waited > bound and is_busy():
            used = min(used for _, used in tries)
            told += f"; the machine is busy (load {os.getloadavg()[0]:.1f}), so the latter counts"
            waited = used
        assert waited <= bound, told
        return told

    return check
