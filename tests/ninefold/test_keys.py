"""Keys are random, stored as hashes, and admitted by either header."""

import errno
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ninefold.errors import ConfigurationError, NotAuthenticated
from ninefold.keys import Keys, KeysFile, create_key, local_key


def test_a_key_is_admitted_by_either_header_and_stored_only_as_a_hash(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key = create_key(path, "shop")
    keys = Keys.from_file(path)
    assert keys.authenticate([(b"x-apikey", key.encode())]) == "shop"
    assert keys.authenticate([(b"authorization", b"Bearer " + key.encode())]) == "shop"
    assert key not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "headers", [[], [(b"x-apikey", b"")], [(b"x-apikey", b"nf_wrong")], [(b"authorization", b"Basic abc")]]
)
def test_no_key_or_a_wrong_one_is_refused(tmp_path: Path, headers: list[tuple[bytes, bytes]]) -> None:
    create_key(tmp_path / "keys.json", "shop")
    with pytest.raises(NotAuthenticated):
        Keys.from_file(tmp_path / "keys.json").authenticate(headers)


def test_a_new_key_under_a_name_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    old, other, new = create_key(path, "shop"), create_key(path, "app"), create_key(path, "shop")
    keys = Keys.from_file(path)
    assert len(json.loads(path.read_text())) == 2
    assert keys.name_of(new.encode()) == "shop"
    assert keys.name_of(other.encode()) == "app"
    with pytest.raises(NotAuthenticated):
        keys.name_of(old.encode())


def test_a_missing_or_broken_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="ninefold key create"):
        Keys.from_file(tmp_path / "keys.json")
    (tmp_path / "keys.json").write_text('{"shop": "zz"}')
    with pytest.raises(ConfigurationError, match="broken"):
        Keys.from_file(tmp_path / "keys.json")


def test_the_local_key_is_made_once(tmp_path: Path) -> None:
    first = local_key(tmp_path, tmp_path / "keys.json")
    assert local_key(tmp_path, tmp_path / "keys.json") == first
    assert Keys.from_file(tmp_path / "keys.json").name_of(first.encode()) == "local"
    assert stat.S_IMODE((tmp_path / "local.key").stat().st_mode) == 0o600


def test_keys_that_are_made_at_once_are_all_kept(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    with ThreadPoolExecutor(8) as several:
        made = list(several.map(lambda number: create_key(path, f"shop {number}"), range(40)))
    keys = Keys.from_file(path)
    assert [keys.name_of(key.encode()) for key in made] == [f"shop {number}" for number in range(40)]


def test_processes_that_start_at_once_have_one_local_key_that_works(tmp_path: Path) -> None:
    for number in range(20):
        home = tmp_path / str(number)
        with ThreadPoolExecutor(4) as several:
            found = set(several.map(lambda _: local_key(home, home / "keys.json"), range(4)))  # noqa: B023
        assert len(found) == 1
        assert Keys.from_file(home / "keys.json").name_of(found.pop().encode()) == "local"


def test_a_keys_file_is_read_again_when_it_changed_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    old = create_key(path, "shop")
    file = KeysFile(path)
    new = create_key(path, "shop")
    assert file.keys.name_of(new.encode()) == "shop"
    with pytest.raises(NotAuthenticated):
        file.keys.name_of(old.encode())
    for damage in ("{", ""):
        path.write_text(damage)
        assert file.keys.name_of(new.encode()) == "shop"
    path.unlink()
    assert file.keys.name_of(new.encode()) == "shop"


def test_a_keys_file_that_can_not_be_read_changes_nothing_and_is_read_when_it_can_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "here" / "keys.json"
    old = create_key(path, "shop")
    file = KeysFile(path)
    new = create_key(path, "shop")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", _too_many_files)
        assert file.keys.name_of(old.encode()) == "shop"
        with pytest.raises(ConfigurationError, match="can't be read: Too many open files"):
            Keys.from_file(path)
    assert file.keys.name_of(new.encode()) == "shop"
    (tmp_path / "here").rename(tmp_path / "away")
    (tmp_path / "here").write_text("no folder")
    assert file.keys.name_of(new.encode()) == "shop"


def _too_many_files(_: Path) -> str:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
