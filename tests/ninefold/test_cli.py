"""The command is quick to answer, names its errors in one line, and loads nothing that it does not need."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("feast", "kfp", "evidently", "lightgbm", "optuna", "polars", "numpy", "sqlalchemy")


def _ninefold(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ninefold", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_help_lists_every_command_and_imports_nothing_heavy() -> None:
    program = (
        "import sys\nsys.argv = ['ninefold', '--help']\nfrom ninefold.cli import COMMANDS, main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        f"print('heavy:', [m for m in {HEAVY!r} if m in sys.modules])\nprint('commands:', *COMMANDS)"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    listed, _, rest = found.stdout.partition("heavy:")
    assert rest.splitlines()[0].strip() == "[]"
    for command in rest.partition("commands:")[2].split():
        assert command in listed


def test_every_command_can_be_loaded() -> None:
    from ninefold.cli import COMMANDS
    from ninefold.loading import load_object

    for path, _ in COMMANDS.values():
        assert callable(load_object(path))


def test_an_unknown_command_is_exit_2_and_named() -> None:
    found = _ninefold("rnu")
    assert found.returncode == 2
    assert "rnu" in found.stderr


def test_a_wrong_python_is_one_line_before_anything_else_is_imported() -> None:
    program = "import sys\nsys.version_info = (3, 10, 13)\nsys.version = '3.10.13 (main)'\nimport ninefold.cli"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert found.returncode == 2
    assert found.stderr == "ninefold: Python 3.10.13 is not supported; use 3.11, 3.12 or 3.13.\n"


def test_an_unknown_use_case_is_one_line_with_the_known_ones() -> None:
    found = _ninefold("run", "training", "arivals")
    assert found.returncode == 2
    assert found.stderr.strip().count("\n") == 0
    assert "arivals" in found.stderr
    assert "arrivals" in found.stderr


def test_a_full_disk_is_one_line_and_leaves_the_old_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ninefold.cli import main

    def full(*_: object, **__: object) -> tuple[int, str]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("tempfile.mkstemp", full)
    monkeypatch.setattr("sys.argv", ["ninefold", "key", "create", "shop"])
    with pytest.raises(SystemExit, match="1"):
        main()
    assert capsys.readouterr().err.splitlines() == [
        "ninefold: No space left on device: something could not be written."
    ]
