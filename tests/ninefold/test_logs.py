import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys, structlog
from ninefold.logs import set_up_logs
log = structlog.get_logger()
set_up_logs("warning")
log.info("left out")
for _ in range(3):
    log.warning("written", number=7)
try:
    raise ValueError("cause")
except ValueError:
    log.exception("with its cause")
sys.stderr.write("still here")
"""


def run(stdout: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-c", PROGRAM], stdout=stdout, stderr=subprocess.PIPE, timeout=30)  # type: ignore[call-overload,no-any-return]


def test_lines_from_the_level_on_are_written(tmp_path: Path) -> None:
    text = run(subprocess.PIPE).stdout.decode()
    assert text.count("written") == 3
    assert "number=7" in text
    assert "ValueError: cause" in text
    assert "left out" not in text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_does_not_end_who_logs() -> None:
    with open("/dev/full", "wb") as full:
        ended = run(full)
    assert ended.stderr.startswith(b"still here")
