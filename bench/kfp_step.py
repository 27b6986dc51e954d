"""A step of a pipeline: what running it through Ninefold costs over KFP's local runner alone."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from kfp import dsl

from components.image import IMAGE
from ninefold.settings import Settings
from pipelines.run import run_pipeline

STEPS = 6
ROUNDS = 3


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def step(number: int, code_digest: str) -> int:
    """A step that does nothing."""
    return number + 1


@dsl.pipeline(name="steps")
def steps(code_digest: str) -> None:
    """Steps that do nothing, one after another."""
    number: Any = 0
    for _ in range(STEPS):
        number = step(number=number, code_digest=code_digest).set_caching_options(False).output


_BARE = """
import sys
from kfp import local
from bench.kfp_step import steps
local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=sys.argv[1])
steps(code_digest="d")
"""


def main() -> list[dict[str, Any]]:
    """The two in turn, whole runs of six steps."""
    bare, ours = [], []
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder))
        for turn in range(ROUNDS):
            started = time.perf_counter()
            subprocess.run(
                [sys.executable, "-c", _BARE, f"{folder}/bare-{turn}"], check=True, stdout=subprocess.DEVNULL
            )
            bare.append(time.perf_counter() - started)
            started = time.perf_counter()
            run_pipeline("bench.kfp_step:steps", {"code_digest": "d"}, run_id=f"run-{turn}", settings=settings)
            ours.append(time.perf_counter() - started)
    ratio = median(a / b for a, b in zip(ours, bare, strict=True))
    return [
        {
            "name": "KFP step: a bare kfp.local step",
            "value": median(bare) / STEPS,
            "bound": None,
            "unit": "s",
            "ok": None,
        },
        {"name": "KFP step: through ninefold", "value": median(ours) / STEPS, "bound": None, "unit": "s", "ok": None},
        {"name": "KFP step: ratio", "value": ratio, "bound": "≤ 1.5", "unit": "×", "ok": ratio <= 1.5},
    ]
