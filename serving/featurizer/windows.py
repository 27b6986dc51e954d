"""Which windows have to be kept online: the union over everything that may be asked."""

from __future__ import annotations

from collections.abc import Iterable

from ninefold.features import with_lengths
from ninefold.records import ModelVersion
from ninefold.usecase import UseCase
from ninefold.windows import Window


def open_windows(use_case: UseCase, versions: Iterable[ModelVersion]) -> dict[str, Window]:
    """The windows at their declared lengths, and at those of every version that is not retired, by view name.

    Raises:
        ConfigurationError: A version names a window that the use case no longer declares.
    """
    chosen = {window.view: window for window in use_case.windows}
    for version in versions:
        if version.state != "retired":
            chosen |= {window.view: window for window in with_lengths(use_case.windows, dict(version.lengths))}
    return chosen
