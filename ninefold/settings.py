"""Settings: one frozen, strict object, from the environment and an optional file.

Names are ``NINEFOLD_`` and the field, ``__`` between levels: ``NINEFOLD_JOURNAL__FSYNC=true``. A file
``ninefold.toml`` in the working directory is read first; the environment wins.
"""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from ninefold.errors import ConfigurationError

_SECRET = re.compile(r"url|key|secret|webhook|password|token", re.IGNORECASE)
"""Names of settings whose values are not for logs."""


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Ports(_Group):
    """TCP ports of the services; all listen on ``Settings.host``."""

    front_end: int = Field(8080, description="The front end.")
    collector: int = Field(8081, description="The collector.")
    orchestrator: int = Field(8082, description="The runs API.")
    evaluator: int = Field(8083, description="The evaluator.")
    model_builder: int = Field(8084, description="The model builder.")
    gateway: int = Field(8085, description="The gateway, for direct clients of the models.")
    gateway_inner: int = Field(8086, description="The gateway, for the front end; on the loopback.")
    rollout: int = Field(8087, description="Health and metrics of the rollout's controller, on a cluster.")
    label_studio: int = Field(8079, description="Label Studio, as `ninefold label up` runs it.")
    featurizer: int = Field(8089, description="The streaming featurizer, where it is a service of its own.")
    models_from: int = Field(8090, description="First port of the model servers, one port a version.")


class Journal(_Group):
    """How the front end keeps an answer before it gives it.

    Without ``fsync`` it survives the death of the process; with it, that of the machine.
    """

    fsync: bool = Field(False, description="Whether an answer waits for the disk.")
    segment_bytes: int = Field(64 * 2**20, gt=0, description="Size at which a new segment begins.")
    ship_seconds: float = Field(0.5, gt=0, description="How often the journal is shipped to the store.")


class Serving(_Group):
    """Bounds of the online services."""

    model_timeout_seconds: float = Field(0.5, gt=0, description="Past this the baseline answers.")
    model_key: SecretStr | None = Field(
        None, description="Key that the front end sends to model servers; locally the machine's own key."
    )
    max_body_bytes: int = Field(10 * 2**20, gt=0, description="Longest body of a request.")
    max_instances: int = Field(10_000, gt=0, description="Most instances, truths or events of a request.")
    feedback_of_key: int = Field(600, gt=0, description="Feedback that one API key may send in a minute, of all users.")
    feedback_of_user: int = Field(20, gt=0, description="Feedback that one user of a key may send in a minute.")
    windows: Literal["in_process", "service"] = Field(
        "in_process",
        description="What keeps windows up to date: the collector, or a featurizer of its own that follows the store.",
    )
    stale_after_seconds: float = Field(
        300.0, gt=0, description="Age of a stream's watermark past which windows are stale."
    )


class Monitoring(_Group):
    """Where the performance monitor reports to, and what it keeps."""

    webhook: SecretStr | None = Field(
        None, description="URL that alerts are posted to as JSON; it may hold a token, so it is not shown."
    )
    webhook_seconds: float = Field(5.0, gt=0, description="How long the webhook is waited for, once.")
    max_training_time: float = Field(
        120.0, ge=1, le=86_400, description="Seconds of the search in a training run that an alert asks for."
    )
    max_trials: int = Field(0, ge=0, description="Models that such a search may fit; 0 for as many as time allows.")
    snapshots: int = Field(120, gt=0, description="Evidently snapshots that are kept of a use case; older ones go.")
    ui_port: int = Field(8088, description="Port of `ninefold monitor ui`.")
    workspace_url: SecretStr | None = Field(
        None,
        description="SQLAlchemy URL of the database that Evidently's workspace has to itself; by default in the home.",
    )


class Labelling(_Group):
    """Label Studio, where experts label, and how it and the collector find each other."""

    url: str = Field(
        "", description="Where Label Studio is; by default on this machine, where `ninefold label up` runs."
    )
    token: SecretStr | None = Field(
        None, description="One of its legacy or personal access tokens; by default that of this machine's."
    )
    environment: Path | None = Field(
        None, description="Python environment that holds it; by default one in the home, made at first use."
    )
    patience_seconds: float = Field(
        60.0, ge=0, description="How long it is waited for when it stops answering in the middle."
    )
    webhook_url: str = Field(
        "", description="Where its webhook reaches the collector; by default this machine's collector."
    )
    webhook_secret: SecretStr | None = Field(
        None, description="What the collector knows the webhook by; on one machine it is made."
    )


class Rollouts(_Group):
    """The rollout controller."""

    look_seconds: float = Field(30.0, gt=0, description="How often the controller looks at a rollout.")
    front_end_url: str = Field(
        "", description="Where it asks whether a candidate could be asked; by default this machine's front end."
    )


class Gateway(_Group):
    """Envoy between those who ask and the model servers."""

    use: Literal["auto", "always", "never"] = Field(
        "auto", description="`auto`: where an Envoy is to be had; else the front end asks the model servers directly."
    )
    requests_per_second: int = Field(
        1000, gt=0, description="What one key of a direct client may ask; more is answered 429."
    )
    workers: int = Field(1, gt=0, description="Envoy's threads.")


class Cluster(_Group):
    """Where things are on Kubernetes. Only what runs there reads it."""

    namespace: str = Field("ninefold", description="Namespace of everything that Ninefold makes on a cluster.")
    routes: Literal["files", "httproute", "knative"] = Field(
        "files",
        description="What carries a rollout: Envoy's files on this machine, a Gateway API route, or Knative's traffic.",
    )
    inner_url: str = Field(
        "http://models-inner.envoy-gateway-system.svc.cluster.local",
        description="The gateway's listener for the front end; it tells versions apart by a header.",
    )
    inner_secret: SecretStr | None = Field(None, description="What that listener admits the front end by.")
    release: Literal["apply", "render"] = Field(
        "apply",
        description="`apply`: a release makes the version's InferenceService and waits for it; `render`: it writes it "
        "beside the run's report, for GitOps, and the rollout waits until somebody has applied it.",
    )
    ready_seconds: float = Field(
        300.0, gt=0, description="How long a new version's InferenceService is waited for until it is ready."
    )
    keep_warm: int = Field(
        1, ge=0, description="Versions that were live before and keep their model servers, to be gone back to at once."
    )
    service_account: str = Field(
        "ninefold-models", description="Service account of model servers; it holds the credentials of the model store."
    )


class Retention(_Group):
    """How long each kind is kept; ``ninefold store prune`` removes what is older, and nothing removes it by itself.

    What can't be made again is kept for ever unless its days are set.
    """

    predictions_days: float | None = Field(
        None, ge=0, le=36_500, description="Age past which predictions go; none keeps them for ever."
    )
    truths_days: float | None = Field(
        None, ge=0, le=36_500,
        description="The same of truths; one whose prediction is kept, or would be, stays in any case.",
    )  # fmt: skip
    events_days: float | None = Field(
        None, ge=0, le=36_500,
        description="The same of events; one that the longest window of now or of a kept prediction sees stays.",
    )  # fmt: skip
    metrics_days: float | None = Field(None, ge=0, le=36_500, description="The same of measurements.")
    runs_days: float | None = Field(None, ge=0, le=36_500, description="The same of runs that have ended.")
    pipelines_days: float | None = Field(
        30.0,
        ge=0,
        le=36_500,
        description="The same of runs' artifacts, the cache of steps and the monitor's references.",
    )
    damaged_days: float | None = Field(
        90.0, ge=0, le=36_500, description="The same of what a journal set aside as damaged."
    )
    packages: int = Field(5, ge=0, description="Retired packages that are kept of a use case, the newest ones.")
    unreleased_days: float | None = Field(
        30.0, ge=0, le=36_500, description="Age past which packages go that no version names."
    )


class Settings(BaseSettings):
    """All settings of all services; each field says what it means, and docs/settings.md shows it."""

    model_config = SettingsConfigDict(
        env_prefix="NINEFOLD_", env_nested_delimiter="__", frozen=True, extra="forbid", toml_file="ninefold.toml"
    )

    environment: Literal["local", "cluster"] = Field(
        "local", description="`local` makes the machine's own key; anything else refuses defaults that are secrets."
    )
    home: Path = Field(Path(".ninefold"), description="Everything that Ninefold writes on this machine.")
    usecases: Path = Field(
        Path("usecases"), description="Folder of your own use cases, one folder each; beside the installed ones."
    )
    host: str = Field("127.0.0.1", description="Address that the services listen on.")
    store_url: str = Field("", description="SQLAlchemy URL of the production database.")
    online_url: str = Field("", description="Where online rows lie.")
    models_url: str = Field("", description="Where packages lie.")
    keys_file: Path | None = Field(None, description="Names and hashes of the API keys.")
    clock: Literal["wall", "event"] = Field(
        "wall", description="`event` where requests' and events' own times are the clock: replays."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least severe line that a service logs."
    )
    ports: Ports = Ports()
    journal: Journal = Journal()
    serving: Serving = Serving()
    retention: Retention = Retention()
    gateway: Gateway = Gateway()
    rollout: Rollouts = Rollouts()
    monitoring: Monitoring = Monitoring()
    labelling: Labelling = Labelling()
    cluster: Cluster = Cluster()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments win over the environment, the environment over the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    @model_validator(mode="before")
    @classmethod
    def _absolute_home(cls, values: dict[str, object]) -> dict[str, object]:
        # Children run in other directories; every path they get has to mean the same place.
        home = Path(str(values.get("home", ".ninefold"))).expanduser().absolute()
        values["home"] = home
        values["usecases"] = Path(str(values.get("usecases", "usecases"))).expanduser().absolute()
        if not values.get("store_url"):
            values["store_url"] = f"sqlite:///{home / 'store.db'}"
        if not values.get("online_url"):
            values["online_url"] = f"sqlite:///{home / 'feast' / 'online.db'}"
        if not values.get("models_url"):
            values["models_url"] = str(home / "models")
        if not values.get("keys_file"):
            values["keys_file"] = home / "keys.json"
        return values

    @property
    def keys_path(self) -> Path:
        """Where the hashes of the API keys lie."""
        return self.keys_file or self.home / "keys.json"

    def folder(self, name: str) -> Path:
        """A folder of ``home`` (``data``, ``feast``, ``journal``, ``pipelines``, …), made when it is missing."""
        path = self.home / name
        path.mkdir(parents=True, exist_ok=True)
        return path


@functools.lru_cache
def settings() -> Settings:
    """The process's settings, read once.

    Raises:
        ConfigurationError: A value or a name is wrong; the message lists each one.
    """
    try:
        return Settings()
    except ValidationError as error:
        wrong = "; ".join(
            _words(".".join(map(str, item["loc"])), item["msg"], item["input"]) for item in error.errors()
        )
        raise ConfigurationError(f"Settings are wrong: {wrong}.", remedy="See docs/settings.md.") from error


def _words(name: str, message: str, given: object) -> str:
    # An address of a database holds its password, and what is printed ends in logs.
    secret = isinstance(given, dict) or _SECRET.search(name) is not None
    return f"{name}: {message} ({'its value is not shown' if secret else f'got {given!r}'})"
