"""``python -m manifests.check``: every overlay and recommended combination; ends with 1 where something is wrong."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from manifests.check.build import COMBINATIONS, NoKustomize, build, copied, kustomize
from manifests.check.definitions import Definitions
from manifests.check.policies import judge
from manifests.check.validate import validate

COMPLETE = ("kind", "production")
"""Overlays in which every kind has to be validated, where schemas are at hand at all."""


def generated_secrets(overlay: Path) -> frozenset[str]:
    """Names of the Secrets that an overlay makes from files; one made from literals is none of them."""
    kustomization: dict[str, Any] = yaml.safe_load((overlay / "kustomization.yaml").read_text())
    generators = kustomization.get("secretGenerator") or ()
    return frozenset(generator["name"] for generator in generators if not generator.get("literals"))


def check() -> bool:
    """Builds, validates and judges everything, and prints what came of it; whether all is well.

    Raises:
        NoKustomize: There is nothing to build with.
    """
    command, definitions = kustomize(), Definitions.found()
    write = sys.stdout.write
    write(f"built with {Path(command[0]).name}; schemas of custom resources: {definitions.source}\n")
    well = True
    with tempfile.TemporaryDirectory(prefix="ninefold-manifests-") as folder:
        manifests = copied(Path(folder))
        for combination in COMBINATIONS:
            try:
                documents = build(manifests, combination, command)
            except subprocess.CalledProcessError as error:
                write(f"{combination}: does not build\n  {error.stderr.strip()}\n")
                well = False
                continue
            validation = validate(documents, definitions)
            broken = judge(documents, generated_secrets(manifests / "overlays" / combination.overlay))
            write(
                f"{combination}: {len(documents)} objects, {len(validation.findings)} schema errors, "
                f"{len(broken)} policy findings, {len(validation.unvalidated)} kinds unvalidated\n"
            )
            for finding in [*validation.findings, *broken]:
                write(f"  {finding}\n")
            for api_version, kind in sorted(validation.unvalidated):
                write(f"  unvalidated: {api_version} {kind}\n")
            missing = definitions.known and combination.overlay in COMPLETE and validation.unvalidated
            well = well and not validation.findings and not broken and not missing
    return well


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(prog="python -m manifests.check", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--where-possible", action="store_true", help="Where nothing can build kustomizations, say so and be content."
    )
    options = parser.parse_args()
    try:
        well = check()
    except NoKustomize as error:
        sys.stderr.write(f"manifests are not checked: {error}\n")
        raise SystemExit(0 if options.where_possible else 2) from None
    raise SystemExit(0 if well else 1)


if __name__ == "__main__":
    main()
