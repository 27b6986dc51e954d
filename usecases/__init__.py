"""Problems, one folder each: those that are installed, and those in the folder that the settings name (``usecases``).

A folder of one's own is found under this package's name, so that a use case's parts have the same import paths here, in
a pipeline's steps, in served processes and in images.
"""

from pathlib import Path

from ninefold.settings import settings

if not any(settings().usecases == Path(place).absolute() for place in __path__):
    __path__.append(str(settings().usecases))
