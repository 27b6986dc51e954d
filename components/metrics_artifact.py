"""A step's metrics as an artifact: shown in the KFP UI, and a file: KFP's local cache takes one without for lost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def log_metrics(artifact: Any, values: Mapping[str, float]) -> None:
    """Logs metrics and writes them.

    Args:
        artifact: A ``dsl.Output[dsl.Metrics]``.
        values: Name → value.
    """
    for name, value in values.items():
        artifact.log_metric(name, value)
    Path(artifact.path).write_text(json.dumps(dict(values), indent=1))
