"""Manager-side code must work where the trainer's libraries are not installed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "hpo_service"
CHILD_SIDE = {"training", "objective", "channel"}
"""Rooms that run in child processes; everything else is the manager side."""

HEAVY = ("torch", "transformers", "peft", "datasets", "accelerate", "bitsandbytes")

LIGHT = (
    "fastapi",
    "matplotlib.figure",
    "numpy",
    "optuna",
    "psycopg",
    "pydantic",
    "rich.console",
    "sqlalchemy.orm",
    "typer",
)
"""What many rooms import, loaded once before any of them; each room is then imported in a process forked off that."""

IMPORT_AND_LIST = """
import importlib, json, os, sys

def loaded_by(names):
    told, tell = os.pipe()
    if os.fork() == 0:
        for name in names:
            importlib.import_module(name)
        with open(tell, "w") as end:
            json.dump(sorted({name.partition(".")[0] for name in sys.modules}), end)
        os._exit(0)
    os.close(tell)
    with open(told) as end:
        text = end.read()
    os.wait()
    return json.loads(text) if text else None

rooms = json.loads(sys.argv[1])
for name in sys.argv[2:]:
    importlib.import_module(name)
print(json.dumps({room: loaded_by(names) for room, names in rooms.items()}))
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


def test_importing_a_whole_room_by_itself_loads_nothing_of_torch() -> None:
    child = subprocess.run(
        [sys.executable, "-c", IMPORT_AND_LIST, json.dumps(ROOMS), *LIGHT], capture_output=True, text=True, check=False
    )
    assert child.returncode == 0, child.stderr
    loaded = json.loads(child.stdout.splitlines()[-1])
    assert [room for room in ROOMS if loaded[room] is None] == [], child.stderr
    assert {room: found for room in ROOMS if (found := set(loaded[room]) & set(HEAVY))} == {}
    assert all("hpo_service" in found for found in loaded.values())


def test_the_walk_finds_the_rooms() -> None:
    assert {"domain", "errors"} <= ROOMS.keys()
    assert CHILD_SIDE.isdisjoint(ROOMS)
