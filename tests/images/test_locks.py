"""The locked lists that the images install."""

import re
from pathlib import Path

import pytest

from images.build import OPTIONAL, TARGETS
from images.contents import NOT_IN

REQUIREMENTS = Path(__file__).parents[2] / "requirements"
LISTS = sorted(path.name for path in REQUIREMENTS.glob("*.txt") if not path.name.startswith("left-out"))


def pinned(name: str) -> dict[str, set[str]]:
    """Package → versions."""
    found: dict[str, set[str]] = {}
    for line in (REQUIREMENTS / name).read_text().splitlines():
        if match := re.match(r"([a-z0-9._-]+)==(\S+)", line):
            found.setdefault(match[1], set()).add(match[2])
    return found


def test_every_target_has_its_list() -> None:
    assert {f"{target}.txt" for target in (*TARGETS, *OPTIONAL)} < set(LISTS)


def test_a_scikit_learn_object_is_locked_to_what_the_tests_run_with() -> None:
    tested, locked = pinned("all.txt"), pinned("../components/model_builder/formats/environment.txt")
    assert {"scikit-learn", "numpy", "scipy", "skops"} <= set(locked)
    assert {name: versions for name, versions in locked.items() if versions != tested.get(name)} == {}


@pytest.mark.parametrize("name", LISTS)
def test_every_package_has_hashes_and_no_list_names_a_registry(name: str) -> None:
    text = (REQUIREMENTS / name).read_text()
    blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(blocks) > 1
    assert [block.split("\n")[0] for block in blocks if "--hash=sha256:" not in block] == []
    assert "://" not in text
    assert not re.search(r"^-{1,2}[a-z]", text, re.MULTILINE)


@pytest.mark.parametrize("target", ["pipeline", "serving", *OPTIONAL])
def test_images_hold_the_versions_that_the_tests_run_with(target: str) -> None:
    tested = pinned("all.txt")
    assert {name: versions for name, versions in pinned(f"{target}.txt").items() if not versions <= tested[name]} == {}


@pytest.mark.parametrize("target", [*TARGETS, *OPTIONAL])
def test_no_list_holds_what_has_no_business_in_its_image(target: str) -> None:
    assert NOT_IN[target] & set(pinned(f"{target}.txt")) == set()


@pytest.mark.parametrize("target", ["pipeline", "serving"])
def test_what_is_left_out_is_out(target: str) -> None:
    left_out = re.findall(r"^([a-z][a-z-]*);", (REQUIREMENTS / f"left-out-of-{target}.txt").read_text(), re.MULTILINE)
    assert left_out
    assert set(left_out) & set(pinned(f"{target}.txt")) == set()
