"""Manager-side code must work where the trainer's libraries are not installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "hpo_service"
CHILD_SIDE = {"training", "objective", "channel"}
"""Rooms that run in child processes; everything else is the manager side."""

HEAVY = ("torch", "transformers", "peft", "datasets", "accelerate", "bitsandbytes")

IMPORT_AND_LIST = """
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def manager_rooms() -> dict[str, list[str]]:
    """Each top-level room of the manager side with every module in it, as the tree stands."""
    rooms: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if path.stem in {"__init__", "__main__"}:
            parts = parts[:-1]
        if parts and parts[0] not in CHILD_SIDE:
            rooms.setdefault(parts[0], []).append(".".join(("hpo_service", *parts)))
    return rooms


ROOMS = manager_rooms()


@pytest.mark.parametrize("room", ROOMS)
def test_importing_the_whole_room_in_a_fresh_interpreter_loads_nothing_of_torch(room: str) -> None:
    child = subprocess.run(
        [sys.executable, "-c", IMPORT_AND_LIST, *ROOMS[room]], capture_output=True, text=True, check=False
    )
    assert child.returncode == 0, child.stderr
    assert set(json.loads(child.stdout.splitlines()[-1])).isdisjoint(HEAVY)


def test_the_walk_finds_the_rooms() -> None:
    assert {"domain", "errors"} <= ROOMS.keys()
    assert CHILD_SIDE.isdisjoint(ROOMS)
