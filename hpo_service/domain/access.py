"""What those who use the server may do."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """What its holder may do; each may also do what those before it may."""

    VIEWER = "viewer"
    """Read everything."""
    OPERATOR = "operator"
    """Create and steer studies, stop and retry trials, drain workers."""
    ADMIN = "admin"
    """Delete studies; make and revoke access tokens."""

    def allows(self, least: Role) -> bool:
        """Whether this role may do what `least` may."""
        ranked = list(Role)
        return ranked.index(self) >= ranked.index(least)
