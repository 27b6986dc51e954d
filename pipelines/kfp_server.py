"""Kubeflow Pipelines' API server, asked through KFP's generated client: each refusal is one error with its remedy."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ninefold.errors import ConfigurationError, NinefoldError, NotAuthenticated, NotFound, Unavailable, UsageError

TOKEN_FILE = "/var/run/secrets/kubeflow/pipelines/token"  # noqa: S105 - where Kubernetes puts a pod's
TIMEOUT = (5.0, 30.0)
"""Seconds to connect and to wait for an answer."""
PAGE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where Kubeflow Pipelines is, and as whom it is asked.

    Args:
        host: URL of its API or of its UI, which passes the API on.
        namespace: Namespace of runs where it is shared by several users; empty elsewhere.
        token: Bearer token; empty for none.
    """

    host: str
    namespace: str = ""
    token: str = field(default="", repr=False)


def address(host: str | None, namespace: str = "", environment: Mapping[str, str] = os.environ) -> Address:
    """The address as given, or as the environment has it for all of KFP's programs.

    Args:
        host: URL; None for ``KF_PIPELINES_ENDPOINT``.
        namespace: Namespace of runs; empty where there are no users.
        environment: Also holds ``KF_PIPELINES_TOKEN``, or ``KF_PIPELINES_SA_TOKEN_PATH``, the file of a service
            account's token.

    Raises:
        UsageError: No host is named, or it is no URL.
        ConfigurationError: The file of the token can't be read.
    """
    host = (host or environment.get("KF_PIPELINES_ENDPOINT", "")).rstrip("/")
    if not host.startswith(("http://", "https://")):
        raise UsageError(
            f"{host!r} is no URL of Kubeflow Pipelines." if host else "Where is Kubeflow Pipelines?",
            remedy="Give --host http://localhost:8888, or set KF_PIPELINES_ENDPOINT. "
            "Reach it by: kubectl -n NAMESPACE port-forward svc/ml-pipeline 8888",
        )
    return Address(host=host, namespace=namespace, token=_token(environment))


def _token(environment: Mapping[str, str]) -> str:
    if token := environment.get("KF_PIPELINES_TOKEN", ""):
        return token
    named = environment.get("KF_PIPELINES_SA_TOKEN_PATH")
    file = Path(named or TOKEN_FILE)
    try:
        return file.read_text().strip() if named or file.is_file() else ""
    except OSError as error:
        raise ConfigurationError(f"The token in {file} can't be read: {error.strerror}.") from error


class KfpServer:
    """Kubeflow Pipelines' API server; making one asks whether it is there.

    Args:
        at: Where it is.

    Raises:
        Unavailable: Nobody answers there, or somebody else.
        NotAuthenticated: It wants to know who asks.
        UsageError: It has users, and no namespace was given.
    """

    def __init__(self, at: Address) -> None:
        import kfp_server_api as api
        import urllib3

        self.at = at
        configuration = api.Configuration(host=at.host)
        # Only what never reached it is asked again: a run that was created twice would run twice.
        configuration.retries = urllib3.Retry(total=2, read=0, status=0, redirect=0, other=0, backoff_factor=0.3)
        configuration.ssl_ca_cert = os.environ.get("SSL_CERT_FILE")
        if at.token:
            configuration.api_key = {"authorization": at.token}
            configuration.api_key_prefix = {"authorization": "Bearer"}
        client = api.ApiClient(configuration)
        self._api = api
        self._experiments = api.ExperimentServiceApi(client)
        self._runs = api.RunServiceApi(client)
        self._recurring = api.RecurringRunServiceApi(client)
        health = self._ask(api.HealthzServiceApi(client).healthz_service_get_healthz)
        if not isinstance(health, api.V2beta1GetHealthzResponse):
            raise Unavailable(f"{at.host} answers, but it is no Kubeflow Pipelines.", remedy="Check --host.")
        if health.multi_user and not at.namespace:
            raise UsageError(f"{at.host} has users.", remedy="Say whose: --namespace NAMESPACE")
        self._namespace = {"namespace": at.namespace} if health.multi_user else {}

    def experiment(self, name: str, *, create: bool) -> str:
        """Id of an experiment.

        Args:
            name: Its name.
            create: Whether it is made when there is none.

        Raises:
            NotFound: There is none, and it isn't made.
        """
        predicate = {"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]}
        found = self._ask(
            self._experiments.experiment_service_list_experiments, filter=json.dumps(predicate), **self._namespace
        ).experiments
        if found:
            return str(found[0].experiment_id)
        if not create:
            raise NotFound(f"There is no experiment {name!r} at {self.at.host}.", remedy="Leave --experiment out.")
        document = self._api.V2beta1Experiment(display_name=name, **self._namespace)
        made = self._ask(self._experiments.experiment_service_create_experiment, experiment=document)
        return str(made.experiment_id)

    def create_run(self, **fields: Any) -> Any:
        """Creates a run of the fields of KFP's ``V2beta1Run``, and returns it."""
        return self._ask(self._runs.run_service_create_run, run=self._api.V2beta1Run(**fields))

    def run(self, run_id: str) -> Any:
        """How a run stands."""
        return self._ask(self._runs.run_service_get_run, run_id=run_id)

    def create_recurring_run(self, *, cron: str, enabled: bool, **fields: Any) -> Any:
        """Creates a recurring run.

        Args:
            cron: Six fields, seconds first, in UTC.
            enabled: Whether it runs, or waits for somebody to enable it.
            **fields: Further fields of KFP's ``V2beta1RecurringRun``.
        """
        document = self._api.V2beta1RecurringRun(
            trigger=self._api.V2beta1Trigger(cron_schedule=self._api.V2beta1CronSchedule(cron=cron)),
            mode=self._api.RecurringRunMode.ENABLE if enabled else self._api.RecurringRunMode.DISABLE,
            **self._namespace,
            **fields,
        )
        return self._ask(self._recurring.recurring_run_service_create_recurring_run, recurring_run=document)

    def delete_recurring_run(self, recurring_run_id: str) -> None:
        """Deletes a recurring run; one that is gone is gone."""
        delete = self._recurring.recurring_run_service_delete_recurring_run
        try:
            self._ask(delete, recurring_run_id=recurring_run_id)
        except NotFound:
            return

    def recurring_runs(self) -> Iterator[Any]:
        """Every recurring run, page by page."""
        token = ""
        while True:
            page = self._ask(
                self._recurring.recurring_run_service_list_recurring_runs,
                page_token=token, page_size=PAGE, **self._namespace,
            )  # fmt: skip
            yield from page.recurring_runs or ()
            token = page.next_page_token
            if not token:
                return

    def _ask(self, call: Callable[..., Any], **arguments: Any) -> Any:
        import urllib3

        try:
            return call(_request_timeout=TIMEOUT, **arguments)
        except urllib3.exceptions.HTTPError as error:
            why = getattr(error, "reason", None) or error
            raise Unavailable(
                f"Kubeflow Pipelines does not answer at {self.at.host}: {why}.",
                remedy="Check --host; reach it by: kubectl -n NAMESPACE port-forward svc/ml-pipeline 8888",
            ) from error
        except self._api.ApiException as error:
            raise refusal(self.at, error.status, error.body) from error
        except ValueError as error:
            raise Unavailable(f"{self.at.host} answers, but it is no Kubeflow Pipelines.") from error


def refusal(at: Address, status: int | None, body: str | bytes | None) -> NinefoldError:
    """What an answer means that is no success.

    Args:
        at: Who answered.
        status: HTTP status.
        body: What was said.
    """
    said = _said(body)
    words = f": {said}" if said else ""
    if status in (401, 403):
        whom = "does not know who asks" if status == 401 else "refuses"
        return NotAuthenticated(
            f"Kubeflow Pipelines at {at.host} {whom} (HTTP {status}){words}.",
            remedy="Set KF_PIPELINES_TOKEN, such as to: kubectl create token ninefold-pipeline "
            "--audience pipelines.kubeflow.org",
        )
    if status in (301, 302, 303, 307, 308):
        return NotAuthenticated(f"{at.host} sends to a page to log in.", remedy="Set KF_PIPELINES_TOKEN.")
    if status == 404 and not said:
        return Unavailable(f"{at.host} answers, but it is no Kubeflow Pipelines (HTTP 404).", remedy="Check --host.")
    if status == 404:
        return NotFound(f"Kubeflow Pipelines at {at.host} knows nothing of it{words}.")
    if status in (400, 409):
        return UsageError(f"Kubeflow Pipelines at {at.host} refuses it (HTTP {status}){words}.")
    return Unavailable(f"Kubeflow Pipelines at {at.host} failed (HTTP {status}){words}.", remedy="Try again.")


def _said(body: str | bytes | None) -> str:
    """What the server said, in one line; empty where it said nothing in JSON."""
    try:
        document = json.loads(body or "")
        words = str(document.get("message") or document.get("error_message") or document.get("error") or "")
    except (ValueError, AttributeError):
        return ""
    # The server repeats what every layer said; the last is the one that knows.
    return " ".join(words.split())[-400:].rstrip(".")
