"""What the ``feast`` command reads: the objects of the use case that ``NINEFOLD_USE_CASE`` names.

A use case outside of ``usecases`` is named twice: ``NINEFOLD_USE_CASE=fraud`` is Feast's project, and
``NINEFOLD_USE_CASE_PATH=team.fraud:USE_CASE`` says where it is. Feast looks for its objects among a module's names, so
they become names here.
"""

from __future__ import annotations

import os

from feature_repo.definitions import objects, views_on_disk
from ninefold.errors import ConfigurationError
from ninefold.loading import load_use_case
from ninefold.settings import settings

_name = os.environ.get("NINEFOLD_USE_CASE_PATH") or os.environ.get("NINEFOLD_USE_CASE")
if not _name:
    raise ConfigurationError("NINEFOLD_USE_CASE is not set.", remedy="Set it to the name of a use case.")
_use_case = load_use_case(_name)
_entities, _views = objects(_use_case, settings(), views_on_disk(_use_case, settings()))
globals().update({f"entity_{entity.name}": entity for entity in _entities})
globals().update({f"view_{view.name}": view for view in _views})
