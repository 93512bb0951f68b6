"""What `serve` was told."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

from hpo_service.errors import UsageError

_BASE_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*")


@dataclass(frozen=True)
class ServeOptions:
    """How the server is started.

    Attributes:
        host: address to listen at.
        port: of it; 0 takes any that is free.
        tls_cert: certificate chain (PEM), where the server speaks TLS itself.
        tls_key: its private key.
        base_path: what a reverse proxy puts before every path, e.g. `/hpo`; empty for nothing.
        allow_dashboard_writes: whether operators may change Optuna's studies in optuna-dashboard.

    Raises:
        UsageError: they do not fit together.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    tls_cert: Path | None = None
    tls_key: Path | None = None
    base_path: str = ""
    allow_dashboard_writes: bool = False

    def __post_init__(self) -> None:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise UsageError("--tls-cert and --tls-key belong together: give both or none")
        if not _BASE_PATH.fullmatch(self.base_path) or "/.." in self.base_path:
            raise UsageError(f"--base-path {self.base_path!r} is no path: write /hpo, without a slash at the end")

    @property
    def secure(self) -> bool:
        """Whether the server speaks TLS itself."""
        return self.tls_cert is not None

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def origin(self) -> str:
        """Scheme, host and port as a browser on this machine writes them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.secure else 'http'}://{host}:{self.port}"
