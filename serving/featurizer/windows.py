"""Which windows have to be kept online: the union over everything that may be asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ninefold.errors import NinefoldError
from ninefold.features import with_lengths
from ninefold.records import ModelVersion
from ninefold.usecase import UseCase
from ninefold.windows import Window


def open_windows(use_case: UseCase, versions: Iterable[ModelVersion]) -> dict[str, Window]:
    """The windows at their declared lengths, and at those of every version that is not retired, by view name.

    A version that is not live and names a window which this code does not declare has none (``without_windows``): a
    candidate of newer code must not keep the live version's windows from being kept.

    Raises:
        ConfigurationError: The live version names a window that the use case no longer declares.
    """
    chosen = {window.view: window for window in use_case.windows}
    versions = list(versions)
    without = without_windows(use_case, versions)
    for version in versions:
        if version.state != "retired" and version.version not in without:
            chosen |= {window.view: window for window in with_lengths(use_case.windows, dict(version.lengths))}
    return chosen


def without_windows(use_case: UseCase, versions: Sequence[ModelVersion]) -> dict[int, str]:
    """Registered versions whose windows can't be kept by this code, and why. Nothing asks them before it can be."""
    found = {}
    for version in versions:
        if version.state == "registered":
            try:
                with_lengths(use_case.windows, dict(version.lengths))
            except NinefoldError as error:
                found[version.version] = str(error)
    return found
