"""The log of a service: structured, a line an event, and never what ends the service.

A service's log is a file, and on a full disk no line can be written. What serves must go on serving then, so a line
that can't be written is left out.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import Any

import structlog


class _Lines:
    """A structlog logger that writes lines to standard output as long as they can be written."""

    def msg(self, line: str) -> None:
        with contextlib.suppress(OSError):
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()

    debug = info = warning = warn = error = critical = exception = msg


def _lines(*_: Any) -> _Lines:
    return _Lines()


def set_up_logs(level: str) -> None:
    """Sets up this process's log; called once, by a service's program before anything else.

    Args:
        level: The least severe kind that is written: ``debug``, ``info``, ``warning`` or ``error``.
    """
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=_lines,
    )
