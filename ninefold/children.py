"""Child processes that end with their parent, however it ends."""

from __future__ import annotations

import os
import sys

# A preexec_fn is not safe beside threads; a few lines in the child before its program are. The check of the parent
# closes the gap in which the parent dies before the signal is asked for.
_LAUNCHER = """
import os, sys
parent, program = int(sys.argv[1]), sys.argv[2:]
if sys.platform == "linux":
    import ctypes, signal
    ctypes.CDLL(None).prctl(1, int(signal.SIGTERM))
    os.getppid() == parent or os._exit(0)
os.execv(program[0], program)
"""


def launched() -> list[str]:
    """What stands before a child's command so that, on Linux, it gets SIGTERM when the thread that started it ends."""
    return [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid())]
