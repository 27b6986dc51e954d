"""The locked environment of a package: what has to be installed, to the version, for its object to be what it was.

A file as pip takes it (``pip install --require-hashes --requirement environment.txt``): a line for each package,
``name==version``, and the SHA-256 of every archive that it may come from. The hashes are checked by who installs; the
versions are checked here, before an object is made, because scikit-learn promises nothing across them.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator

from ninefold.errors import ConfigurationError, PackageError

_LINE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9.+!]+)((?: --hash=sha256:[0-9a-f]{64})+)")


def locked(content: bytes) -> dict[str, str]:
    """Package → version, of every line.

    Raises:
        PackageError: A line is no exact version with hashes.
    """
    found = {}
    for line in _lines(content):
        match = _LINE.fullmatch(line)
        if match is None:
            raise PackageError(f"The package's environment has the line {line!r:.80}, no exact version with hashes.")
        found[match[1]] = match[2]
    if not found:
        raise PackageError("The package's environment names no versions.")
    return found


def _lines(content: bytes) -> Iterator[str]:
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise PackageError("The package's environment is no text.") from error
    for line in text.replace("\\\n", " ").splitlines():
        words = line.split()
        if words and not words[0].startswith("#"):
            yield " ".join(words)


def require_installed(content: bytes) -> None:
    """Refuses where something else is installed than a package needs.

    Raises:
        PackageError: The file can't be understood.
        ConfigurationError: A package is missing, or of another version; the message names all of them.
    """
    wrong = []
    for name, version in locked(content).items():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{name} {version} is not installed")
            continue
        if found != version:
            wrong.append(f"{name} is {found} here and has to be {version}")
    if wrong:
        raise ConfigurationError(
            f"This package is a scikit-learn object and loads only into what it was made with: {'; '.join(wrong)}.",
            remedy="Install what its environment.txt locks: pip install --require-hashes --requirement environment.txt",
        )
