"""``python -m manifests.kind_secrets``: the secrets of overlay kind, made at random where they are missing.

A secret that is there stays, so that a second run changes nothing on a cluster that runs. The files are in no
repository. Production makes no secrets here: its overlay names existing ones.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path

from ninefold.keys import create_key

FOLDER = Path(__file__).parent / "overlays" / "kind" / "secrets"


def make_secrets(folder: Path, *, s3: dict[str, str] | None = None) -> list[str]:
    """Makes what is missing, readable by its owner alone.

    Args:
        folder: Where they lie.
        s3: Endpoint and credentials of the model store; random credentials at Kubeflow Pipelines' own store without.

    Returns:
        Names of the files that were made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    made = [name for name, text in _FILES.items() if _write(folder / name, text)]
    keys = folder / "keys.json"
    if not keys.exists() or not (folder / "model-key").exists():
        # A key and its hash belong together.
        for name in ("model-key", "client-key"):
            (folder / name).unlink(missing_ok=True)
        _write(folder / "model-key", lambda: create_key(keys, "front-end"))
        _write(folder / "client-key", lambda: create_key(keys, "client"))
        made += ["keys.json", "model-key", "client-key"]
    given = {**_S3, **(s3 or {})}
    if _write(folder / "s3.env", lambda: _env(**given)):
        made.append("s3.env")
    return made


def _store() -> str:
    password = secrets.token_urlsafe(24)
    at = f"ninefold:{password}@postgres:5432"
    return _env(
        password=password,
        **{"url": f"postgresql://{at}/ninefold", "evidently-url": f"postgresql://{at}/evidently"},
    )


def _online() -> str:
    password = secrets.token_urlsafe(24)
    return _env(password=password, url=f"redis://:{password}@redis:6379/0")


def _label_studio() -> str:
    """The administrator of the component ``labelling``, its API token (40 characters at most), and the webhook's."""
    return _env(
        username="admin@localhost", password=secrets.token_urlsafe(12), token=secrets.token_hex(20),
        **{"webhook-secret": secrets.token_urlsafe(32)},
    )  # fmt: skip


_FILES: dict[str, Callable[[], str]] = {
    "store.env": _store,
    "online.env": _online,
    "inner.env": lambda: _env(**{"front-end": secrets.token_urlsafe(32)}),
    "label-studio.env": _label_studio,
}

_S3 = {
    "AWS_ENDPOINT_URL": "http://minio-service.kubeflow:9000",
    "AWS_ACCESS_KEY_ID": secrets.token_hex(10),
    "AWS_SECRET_ACCESS_KEY": secrets.token_urlsafe(24),
    "AWS_DEFAULT_REGION": "us-east-1",
}


def _env(**values: str) -> str:
    return "".join(f"{name}={value}\n" for name, value in values.items())


def _write(path: Path, text: Callable[[], str]) -> bool:
    if path.exists():
        return False
    path.touch(mode=0o600)
    path.write_text(text())
    return True


def main() -> None:
    """Makes them; the model store's credentials come from the environment where it has them."""
    parser = argparse.ArgumentParser(prog="python -m manifests.kind_secrets", description=__doc__, allow_abbrev=False)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="Where they lie.")
    options = parser.parse_args()
    made = make_secrets(options.folder, s3={name: os.environ[name] for name in _S3 if os.environ.get(name)})
    sys.stdout.write(f"{options.folder}: {', '.join(made) if made else 'every secret is there'}\n")


if __name__ == "__main__":
    main()
