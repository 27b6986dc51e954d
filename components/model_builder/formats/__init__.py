"""What a trained model is packaged as: which families can be, and which files the package then holds.

ONNX is the default (``onnx_export``). A use case chooses another one by ``model_format``; every one goes through the
same search, the same parity gate and the same gates of release.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from components.model_builder.families import Family
from components.model_builder.table import Table, Task
from ninefold.package import ENVIRONMENT, MODELS
from ninefold.usecase import ModelFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format beside ONNX. A package of it holds one model, as it was trained: no average.

    Args:
        name: As in a package's manifest.
        families: As ``components.model_builder.families.families``.
        files: From the task and the fitted model to file name → content.
        calibrates: Whether a curve of calibration can follow the model.
        versions: Library → version, beside those of every package.
    """

    name: Literal["pmml", "skops"]
    families: Callable[..., list[Family]]
    files: Callable[[Task, object], dict[str, bytes]]
    calibrates: bool
    versions: Callable[[], Mapping[str, str]]


def other_format(name: ModelFormat) -> Format | None:
    """The format of a name; None for ONNX, the model builder's own."""
    return None if name == "onnx" else _FORMATS[name]


def _pmml_families(task: Task, train: Table, validation: Table, *, seed: int, threads: int) -> list[Family]:
    from components.model_builder.families import families

    return families(task, train, validation, seed=seed, threads=threads)


def _pmml_files(task: Task, fitted: object) -> dict[str, bytes]:
    from components.model_builder.formats.pmml import to_pmml

    return {MODELS["pmml"]: to_pmml(task, fitted)}


def _skops_families(task: Task, train: Table, validation: Table, *, seed: int, threads: int) -> list[Family]:
    from components.model_builder.formats import scikit, skops

    # Before any time is spent on a search whose outcome could not be packaged.
    found = scikit.families(task, train, validation, seed=seed, threads=threads)
    skops.environment()
    return found


def _skops_files(task: Task, fitted: object) -> dict[str, bytes]:
    from components.model_builder.formats import skops

    return {MODELS["skops"]: skops.to_skops(fitted), ENVIRONMENT: skops.environment()}


def _skops_versions() -> Mapping[str, str]:
    from components.model_builder.formats import skops

    return skops.versions()


_FORMATS: dict[str, Format] = {
    "pmml": Format(name="pmml", families=_pmml_families, files=_pmml_files, calibrates=True, versions=dict),
    "skops": Format(
        name="skops", families=_skops_families, files=_skops_files, calibrates=False, versions=_skops_versions
    ),
}
