"""The process that serves: who may start it how, the address it listens at, and its end."""

from __future__ import annotations

import logging
import signal
import socket
import ssl
from collections.abc import Callable
from dataclasses import replace
from types import FrameType

import uvicorn

from hpo_service.bootstrap import Service
from hpo_service.domain.access import Role
from hpo_service.errors import UsageError
from hpo_service.web.api.events import Streams
from hpo_service.web.app import build_app
from hpo_service.web.options import ServeOptions

CONNECTIONS = 8
"""To the database at most: requests side by side."""
GRACE_SECONDS = 10
"""How long requests that are being answered may take after the signal to end."""


def serve(service: Service, options: ServeOptions, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Args:
        service: what is served; its database is brought up to this version first.
        options: how.
        say: tells people a line.

    Raises:
        UsageError: other machines could reach the server and nobody could log in; the address is taken or none of this
            machine's; the certificate or its key cannot be used.
    """
    _check_certificate(options)
    service.upgrade()
    lines = opening(service, options)
    listening = _listen(options)
    options = replace(options, port=listening.getsockname()[1])
    lines = [line.format(origin=options.origin + options.base_path) for line in lines]
    streams = Streams()
    server = _Server(
        uvicorn.Config(
            build_app(service, options, streams=streams),
            ssl_certfile=options.tls_cert,
            ssl_keyfile=options.tls_key,
            log_config=None,
            access_log=False,  # a link that logs in would be written into it
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=GRACE_SECONDS,
        ),
        streams,
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    for line in lines:
        say(line)
    # uvicorn sends itself the signal again once it has ended in good order, for whoever set a handler before
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server.run(sockets=[listening])


class _Server(uvicorn.Server):
    """One that has streams of events end before it waits for whoever is being answered."""

    def __init__(self, config: uvicorn.Config, streams: Streams) -> None:
        super().__init__(config)
        self._streams = streams

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._streams.stopping = True
        super().handle_exit(sig, frame)


def opening(service: Service, options: ServeOptions) -> list[str]:
    """Return what people are told at the start, with `{origin}` for the address.

    On an address of this machine alone, as long as there is no token, one line is a link that logs in once.

    Raises:
        UsageError: other machines could reach the server and nobody could log in.
    """
    lines = ["serving {origin}/ (Ctrl-C ends it)"]
    if not service.access.anybody():
        if not options.loopback:
            raise UsageError(
                f"{options.host} is reached from other machines, and nobody could log in: make an access token first, "
                "`hpo-service token create NAME --role admin`, or serve on 127.0.0.1"
            )
        code = service.access.link(Role.ADMIN).secret
        lines.append(
            f"there is no access token yet; this link logs in once, for 15 minutes: {{origin}}/login?code={code}"
        )
    if not options.loopback and not options.secure:
        lines.append("warning: without TLS tokens travel in the clear: give --tls-cert and --tls-key, or use a proxy")
    return lines


def _check_certificate(options: ServeOptions) -> None:
    """Load certificate and key before anybody is told that the server is there."""
    if options.tls_cert is None or options.tls_key is None:
        return
    for file in (options.tls_cert, options.tls_key):
        try:
            file.read_bytes()
        except OSError as error:
            raise UsageError(f"{file} cannot be read: {error.strerror or error}") from None
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(options.tls_cert, options.tls_key)
    except ssl.SSLError as error:
        reason = error.reason or error
        raise UsageError(
            f"--tls-cert {options.tls_cert} and --tls-key {options.tls_key} are no certificate chain and its key, "
            f"both PEM ({reason})"
        ) from None


def _listen(options: ServeOptions) -> socket.socket:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        return socket.create_server((options.host, options.port), family=family, backlog=2048)
    except socket.gaierror as error:
        raise UsageError(f"--host {options.host} is no address of this machine: {error.strerror}") from None
    except OverflowError as error:
        raise UsageError(f"--port {options.port} is no port: {error}") from None
    except OSError as error:
        raise UsageError(f"cannot listen at {options.host}:{options.port} ({error.strerror}): name another") from None
