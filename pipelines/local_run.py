"""The child process that runs one pipeline through KFP's local runner; ``pipelines.run`` starts it and reads its log.

A process of its own, because KFP's local runner takes over logging and ``print``, and because a step's failure ends
in an exception that only names tasks.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import warnings
from typing import Any


def main(document: dict[str, Any]) -> None:
    """Runs a pipeline.

    Args:
        document: ``pipeline`` (import path of the pipeline function), ``arguments``, ``root``, ``cache``.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    warnings.filterwarnings("ignore", category=FutureWarning)
    from kfp import local

    from ninefold.loading import load_object

    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=document["root"],
        enable_caching=True,
        cache_root=document["cache"],
    )
    pipeline = load_object(document["pipeline"], what="pipeline")
    _try_once(pipeline)
    pipeline(**document["arguments"])


def _try_once(pipeline: Any) -> None:
    """Takes the retries away, which are for a cluster's troubles: here who started the run wants to know at once."""
    spec = pipeline.pipeline_spec
    for component in (spec.root, *spec.components.values()):
        for task in component.dag.tasks.values():
            task.ClearField("retry_policy")


def _end_with_parent() -> None:
    # Whoever started the run holds the other end of the input. When it is interrupted or killed, so is the step.
    sys.stdin.read()
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    asked = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    main(asked)
