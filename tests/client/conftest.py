"""One client each way, over the same database: every test of the contract asks both."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn

from hpo_service.client import Client, connect
from hpo_service.client.database import DatabaseTransport
from hpo_service.client.http import HttpTransport
from hpo_service.domain.access import Role
from tests.web.conftest import Site, site_url, sites  # noqa: F401 - fixtures


class Listening:
    """A site that listens at a port of this machine."""

    def __init__(self, site: Site) -> None:
        self.site = site
        config = uvicorn.Config(site.app, port=0, lifespan="off", log_config=None, ws="none")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        (socket,) = self._server.servers[0].sockets
        self.url = f"http://127.0.0.1:{socket.getsockname()[1]}"

    def stop(self) -> None:
        self.site.streams.stopping = True
        self._server.should_exit = True
        self._thread.join(30)


@pytest.fixture
def site(sites) -> Site:  # noqa: F811
    made = sites()
    made.streams.seconds = 900.0
    return made


@pytest.fixture
def listening(site: Site) -> Iterator[Listening]:
    started = Listening(site)
    yield started
    started.stop()


@pytest.fixture(params=["http", "database"])
def client(request: pytest.FixtureRequest, site: Site) -> Iterator[Client]:
    """A client that may do everything."""
    if request.param == "database":
        made = connect(site.service.settings.storage)
        assert isinstance(made._transport, DatabaseTransport)
    else:
        made = connect(request.getfixturevalue("listening").url, site.secrets[Role.ADMIN])
        assert isinstance(made._transport, HttpTransport)
    with made:
        yield made
