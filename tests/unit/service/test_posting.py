"""Messages are signed, go where they were meant to go, and to no address at which clouds tell credentials."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from hpo_service.service.posting import NotTaken, post, refusal, shown


class Receiver(HTTPServer):
    """Keeps what is posted to it."""

    status = 204
    got: list[tuple[dict[str, str], bytes, str]]


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((dict(self.headers), body, self.path))
        self.send_response(self.server.status)
        self.send_header("Location", "http://127.0.0.1:9/elsewhere")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver(("127.0.0.1", 0), Handler)
    server.got = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def send(receiver: Receiver, host: str = "127.0.0.1", **given: bool) -> None:
    url = f"http://{host}:{receiver.server_port}/a?b=c"
    post(url, "s3cret", {"text": "ü"}, about="7", **{"allow_link_local": False, **given})


def test_a_message_is_signed_with_its_time(receiver):
    send(receiver)
    headers, body, path = receiver.got[0]
    assert path == "/a?b=c"
    assert json.loads(body) == {"text": "ü"}
    expected = hmac.new(b"s3cret", headers["X-Hpo-Timestamp"].encode() + b"." + body, hashlib.sha256).hexdigest()
    assert headers["X-Hpo-Signature"] == f"sha256={expected}"
    assert headers["X-Hpo-Delivery"] == "7"
    assert "s3cret" not in str(headers)


@pytest.mark.parametrize("status", [302, 404, 500])
def test_whatever_is_not_taken_is_told_and_redirects_are_not_followed(receiver, status):
    receiver.status = status
    with pytest.raises(NotTaken, match=f"it answered {status}"):
        send(receiver)
    assert len(receiver.got) == 1


def test_whoever_is_not_there_did_not_take_it():
    with pytest.raises(NotTaken, match="Refused"):
        post("http://127.0.0.1:9/", "s", {}, about="1", allow_link_local=False)


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "169.254.170.2", "fe80::1%eth0", "::ffff:169.254.169.254", "fd00:ec2::254", "100.100.100.200",
     "224.0.0.1", "0.0.0.0"],
)  # fmt: skip
def test_addresses_of_clouds_and_of_nobody_are_refused(address):
    assert refusal(address)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "192.168.1.1", "93.184.216.34", "::1", "2606:4700::1"])
def test_others_may_be_told(address):
    assert refusal(address) is None


def test_a_name_that_leads_to_a_refused_address_is_refused_before_anything_is_said(receiver, monkeypatch):
    monkeypatch.setattr("hpo_service.service.posting.METADATA", {"127.0.0.1"})
    with pytest.raises(NotTaken, match="--allow-link-local"):
        send(receiver, host="localhost")
    assert receiver.got == []
    send(receiver, allow_link_local=True)
    assert len(receiver.got) == 1


def test_of_a_url_the_host_is_shown_alone():
    assert shown("https://user:pw@hooks.slack.com:8443/services/T0/B0/s3cret?x=y") == "https://hooks.slack.com:8443/..."
