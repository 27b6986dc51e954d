"""``python -m serving.model_server``: serves one package, or the packages that a models file lists."""

from __future__ import annotations

import argparse
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from ninefold.errors import ConfigurationError
from ninefold.keys import Keys
from ninefold.logs import set_up_logs
from ninefold.service import bound_socket, run
from ninefold.settings import settings


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    bounds = settings().serving
    parser = argparse.ArgumentParser(prog="python -m serving.model_server", description=__doc__, allow_abbrev=False)
    parser.add_argument("--package", help="Folder of the package.")
    parser.add_argument("--digest", help="The package's digest, from outside of the package.")
    parser.add_argument("--name", help="Name of the model on the wire.")
    parser.add_argument(
        "--models",
        type=Path,
        help='Instead: a JSON file, name → {"package": FOLDER, "digest": DIGEST}. Read at a load.',
    )
    parser.add_argument("--host", default="127.0.0.1", help="Address to listen on.")
    parser.add_argument("--port", type=int, default=settings().ports.models_from, help="Port of HTTP.")
    parser.add_argument("--grpc-port", type=int, default=0, help="Port of gRPC (v2); 0 for none.")
    parser.add_argument("--keys", type=Path, help="Keys file; without one, everybody on this machine is admitted.")
    parser.add_argument("--max-body-bytes", type=int, default=bounds.max_body_bytes)
    parser.add_argument("--max-instances", type=int, default=bounds.max_instances)
    parsed = parser.parse_args(arguments)
    if (parsed.models is None) is (None in (parsed.package, parsed.digest, parsed.name)):
        parser.error("Give --package, --digest and --name, or --models.")
    return parsed


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def serve(arguments: Sequence[str] | None = None) -> None:
    """Serves until SIGTERM.

    Raises:
        PackageError: The package is damaged or foreign.
        ConfigurationError: The port is taken, the keys file is missing, or nothing would keep strangers out.
    """
    options = _arguments(arguments)
    set_up_logs(settings().log_level)
    if options.keys is None and not _is_loopback(options.host):
        raise ConfigurationError(
            f"Without keys a model server does not listen on {options.host}.",
            remedy="Give --keys FILE (ninefold key create NAME), or listen on 127.0.0.1.",
        )
    keys = Keys.from_file(options.keys) if options.keys is not None else None
    # The port is taken and the package verified before KServe's imports, which take seconds.
    listener = bound_socket(options.host, options.port, name="model server", setting="--port")
    if options.package is not None:
        from ninefold.package import verify_package

        verify_package(options.package, options.digest)

    from serving.model_server.lean_kserve import import_kserve

    import_kserve()
    from serving.model_server.metrics import Counters
    from serving.model_server.repository import PackageAt, PackageRepository, catalogue_file
    from serving.model_server.server import PackageServer

    at = {options.name: PackageAt(options.package, options.digest)}
    catalogue = catalogue_file(options.models) if options.models is not None else lambda: at
    counters = Counters()
    repository = PackageRepository(catalogue, counters, max_instances=options.max_instances)
    server = PackageServer(
        repository,
        counters,
        listener=listener,
        host=options.host,
        grpc_port=options.grpc_port,
        keys=keys,
        max_body_bytes=options.max_body_bytes,
    )
    server.start([repository.build(name) for name in catalogue()])


if __name__ == "__main__":
    run(serve, name="model server")
