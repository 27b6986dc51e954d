"""The packages that a server may load, by name, and those that it has: KServe's repository, with a real reload."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import kserve.errors
from kserve import ModelRepository
from kserve.protocol.model_repository_extension import ModelRepositoryExtension

from ninefold.errors import ConfigurationError, NinefoldError
from ninefold.package import load_predictor
from serving.model_server.metrics import Counters
from serving.model_server.model import PackagedModel


@dataclass(frozen=True, slots=True)
class PackageAt:
    """Where a package lies, and the digest that it must have: the trust comes from here, never from the package."""

    folder: str
    digest: str


Catalogue = Callable[[], Mapping[str, PackageAt]]
"""The packages that may be loaded, by model name; asked again at every load."""


def catalogue_file(path: Path) -> Catalogue:
    """A catalogue in a JSON file: ``{"arrivals-v7": {"package": FOLDER, "digest": DIGEST}}``."""

    def read() -> Mapping[str, PackageAt]:
        try:
            document = json.loads(path.read_bytes())
            return {str(name): PackageAt(str(at["package"]), str(at["digest"])) for name, at in document.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigurationError(
                f"The models file {path} can't be read: {error!r}.",
                remedy='It maps a name to {"package": FOLDER, "digest": DIGEST}.',
            ) from error

    return read


class PackageRepository(ModelRepository):
    """Loads packages by name: verifies and warms in a thread, then rebinds, so that no request waits or fails.

    Args:
        catalogue: What may be loaded.
        counters: Where loaded packages are noted.
        max_instances: Rows that one request may hold.
    """

    def __init__(self, catalogue: Catalogue, counters: Counters, *, max_instances: int) -> None:
        super().__init__()
        self._catalogue = catalogue
        self._counters = counters
        self._max_instances = max_instances
        self._loading = asyncio.Lock()
        self.by_path: dict[str, PackagedModel] = {}

    def build(self, name: str) -> PackagedModel:
        """Verifies, loads and warms the package of a name; nothing is bound yet.

        Raises:
            kserve.errors.ModelNotFound: The catalogue has no such name.
            PackageError: The package is damaged or foreign.
            ConfigurationError: The catalogue can't be read.
        """
        catalogue = self._catalogue()
        if name not in catalogue:
            raise kserve.errors.ModelNotFound(name)
        at = catalogue[name]
        model = PackagedModel(name, at.digest, load_predictor(at.folder, at.digest), max_instances=self._max_instances)
        model.warm()
        return model

    def update(self, model: PackagedModel, name: str | None = None) -> None:
        """Binds a model to its name, in place of another one."""
        super().update(model, name)
        self.by_path[f"/v1/models/{name or model.name}:predict"] = model
        self._counters.loaded(name or model.name, model.digest, model.predictor.manifest.format)

    async def load(self, name: str) -> bool:
        """Loads the package that the catalogue now names; until it is ready, the one before answers.

        Raises:
            kserve.errors.ModelNotFound: The catalogue has no such name.
            PackageError: The package is damaged or foreign; the one before stays.
        """
        async with self._loading:
            self.update(await asyncio.to_thread(self.build, name))
        return True

    def unload(self, name: str) -> None:
        """Takes a model away; requests that it is working on are answered.

        Raises:
            KeyError: Nothing is loaded under that name.
        """
        # KServe's own would mark the model as not ready, and fail the requests that wait in it.
        del self.models[name]
        del self.by_path[f"/v1/models/{name}:predict"]
        self._counters.unloaded(name)


class ReloadingExtension(ModelRepositoryExtension):
    """The v2 repository API, for HTTP and gRPC; KServe's own answers 200 and loads nothing."""

    def __init__(self, repository: PackageRepository) -> None:
        super().__init__(model_registry=repository)
        self._repository = repository

    async def load(self, model_name: str) -> dict[str, object]:
        """Loads or reloads a package.

        Raises:
            kserve.errors.ModelNotFound: No such name.
            kserve.errors.ModelNotReady: The package was refused; the message says why.
        """
        try:
            await self._repository.load(model_name)
        except NinefoldError as error:
            raise kserve.errors.ModelNotReady(model_name, str(error)) from error
        return {"name": model_name, "load": True}

    async def unload(self, model_name: str) -> dict[str, object]:
        """Unloads a package.

        Raises:
            kserve.errors.ModelNotFound: Nothing is loaded under that name.
        """
        await super().unload(model_name)
        return {"name": model_name, "unload": True}
