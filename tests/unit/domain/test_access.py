"""Who may more, may all that others may."""

from __future__ import annotations

import itertools

from hpo_service.domain.access import Role


def test_roles_are_ranked():
    for less, more in itertools.combinations(Role, 2):
        assert more.allows(less)
        assert not less.allows(more)
    assert all(role.allows(role) for role in Role)
