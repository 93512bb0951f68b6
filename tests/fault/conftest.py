"""Fleets of real worker processes that never outlive their test."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the objectives, as the workers import them


@pytest.fixture
def fleet_of(tmp_path):
    from fleet import Fleet

    fleets = []

    def make(service, study, **environment):
        fleets.append(Fleet(service.settings.storage, tmp_path / "out", study, environment))
        return fleets[-1]

    yield make
    for fleet in fleets:
        fleet.stop()
