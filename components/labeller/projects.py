"""A use case's project in Label Studio: found, made, and brought to what the use case declares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from components.labeller.interface import project, project_mark, project_title
from components.labeller.label_studio import LabelStudio
from ninefold.errors import DataError, UsageError
from ninefold.labels import LabellingInterface
from ninefold.usecase import UseCase

Tell = Callable[[str], None]


def interface_of(use_case: UseCase) -> LabellingInterface:
    """What experts see and may answer.

    Raises:
        UsageError: The use case declares nothing of the kind.
    """
    if use_case.labelling is None:
        raise UsageError(
            f"{use_case.name} declares no labelling interface.",
            remedy="Give its UseCase a `labelling=LabellingInterface(...)`; see docs/labelling.md.",
        )
    return use_case.labelling


def find_project(studio: LabelStudio, use_case: UseCase) -> dict[str, Any] | None:
    """The use case's project: the oldest with its mark, else the oldest with its title; None where there is none.

    Somebody may have edited one of both by hand.
    """
    everything = studio.projects()
    marked = [one for one in everything if project_mark(use_case) in (one.get("description") or "")]
    titled = [one for one in everything if one.get("title") == project_title(use_case)]
    return next(iter([*marked, *titled]), None)


def ensure_project(studio: LabelStudio, use_case: UseCase, tell: Tell) -> int:
    """The number of the use case's project, made or brought to what the use case declares.

    Args:
        studio: Label Studio.
        use_case: The use case.
        tell: Told what could not be brought back.
    """
    declared = project(use_case, interface_of(use_case))
    found = find_project(studio, use_case)
    if found is None:
        return int(studio.create_project(declared)["id"])
    number = int(found["id"])
    for name, value in declared.items():
        if found.get(name) == value:
            continue
        try:
            studio.update_project(number, {name: value})
        except DataError as error:
            # As when annotations hold labels that the use case does not know: they are kept, and never a truth.
            tell(f"{project_title(use_case)} keeps its {name.replace('_', ' ')}, which somebody edited: {error}")
    return number


def ensure_webhook(studio: LabelStudio, project_number: int, settings: Mapping[str, Any]) -> None:
    """Makes the webhook, or brings the one with the same address to what it has to be."""
    for known in studio.webhooks(project_number):
        if known.get("url") == settings["url"]:
            wanted = {name: value for name, value in settings.items() if known.get(name) != value}
            if wanted:
                studio.save_webhook(int(known["id"]), settings)
            return
    studio.save_webhook(None, settings)
