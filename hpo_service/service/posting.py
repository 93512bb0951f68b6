"""Posting a signed message to a webhook: to where it was meant to go and nowhere else."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import ipaddress
import json
import ssl
import time
from typing import Any
from urllib.parse import urlsplit

from hpo_service.errors import UsageError

TIMEOUT_SECONDS = 10.0
METADATA = frozenset({"fd00:ec2::254", "100.100.100.200", "168.63.129.16"})
"""Addresses at which clouds tell machines their credentials; the most common, 169.254.169.254, is link-local."""


class NotTaken(Exception):  # noqa: N818 - no error of the service's: it is tried again
    """The other side did not take a message; the text says why."""


def check_url(url: str) -> None:
    """Make sure that a URL can be a webhook's.

    Raises:
        UsageError: it is none of http(s), or has no host.
    """
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        fits = False
    if not fits or any(character.isspace() or not character.isprintable() for character in url):
        raise UsageError("the webhook's address is no URL: write https://HOST/PATH")


def shown(url: str) -> str:
    """Write a webhook's URL for people to see: its path is often a secret."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}/..."


def refusal(address: str) -> str | None:
    """Say why nothing is sent to an address, None where it may be."""
    found = ipaddress.ip_address(address.partition("%")[0])
    plain = getattr(found, "ipv4_mapped", None) or found
    if plain.is_link_local or str(plain) in METADATA:
        return f"{address} is where clouds tell machines their credentials: `webhook add --allow-link-local` permits it"
    if plain.is_multicast or plain.is_unspecified:
        return f"{address} is no address of one machine: name another"
    return None


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """Return the HMAC-SHA256 of `timestamp.body`, hexadecimal."""
    return hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def post(url: str, secret: str, message: dict[str, Any], *, about: str, allow_link_local: bool) -> None:
    """Post a message as JSON, signed; redirects are not followed, and no proxy is asked.

    Args:
        url: where to.
        secret: what it is signed with.
        message: what is said.
        about: tells this message from others, the same each time it is sent.
        allow_link_local: whether the address may be one at which clouds tell credentials.

    Raises:
        NotTaken: it could not be reached, may not be, or did not answer 2xx.
    """
    parts = urlsplit(url)
    body, timestamp = json.dumps(message).encode(), str(int(time.time()))
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "hpo-service",
        "X-Hpo-Delivery": about,
        "X-Hpo-Timestamp": timestamp,
        "X-Hpo-Signature": f"sha256={signature(secret, timestamp, body)}",
    }
    connection = _connection(parts.scheme, str(parts.hostname), parts.port)
    try:
        connection.connect()
        why = None if allow_link_local else refusal(connection.sock.getpeername()[0])
        if why is not None:
            raise NotTaken(why)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", target, body, headers)
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise NotTaken(f"{type(error).__name__}: {error}") from error
    finally:
        connection.close()
    if not 200 <= status < 300:
        raise NotTaken(f"it answered {status}")


def _connection(scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
    if scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
    return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_SECONDS, context=ssl.create_default_context())
