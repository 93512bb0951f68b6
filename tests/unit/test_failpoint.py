"""The labelled points at which the attack suite kills a process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import hpo_service
from hpo_service import failpoint
from hpo_service.failpoint import LABELS, reach

PACKAGE = Path(hpo_service.__file__).parent


def _visits(wish: str, *labels: str) -> subprocess.CompletedProcess[str]:
    """Run a process that reaches these points in turn and says so."""
    lines = "".join(f"reach({label!r}); print({label!r}, flush=True)\n" for label in labels)
    text = f"from hpo_service.failpoint import reach\n{lines}"
    environment = {"HPO_SERVICE_FAILPOINT": wish, "PYTHONPATH": str(PACKAGE.parent)}
    return subprocess.run([sys.executable, "-c", text], env=environment, capture_output=True, text=True, check=False)


def test_the_process_dies_at_the_point_that_was_asked_for() -> None:
    done = _visits("claim.bound", "claim.reserved", "claim.bound", "claim.committed")
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == "claim.reserved\n"


def test_it_dies_at_the_visit_that_was_asked_for() -> None:
    done = _visits("report.held:3", *["report.held", "finish.held"] * 4)
    assert done.returncode == -signal.SIGKILL
    assert done.stdout.count("report.held") == 2
    assert done.stdout.count("finish.held") == 2


def test_without_a_wish_nothing_happens() -> None:
    done = _visits("", *LABELS)
    assert done.returncode == 0
    assert done.stdout.split() == list(LABELS)


@pytest.mark.parametrize("wish", ["claim.bond", "claim.bound:x", "claim.bound:0", "claim.bound:-1", "claim.bound:1.5"])
def test_an_attack_that_would_never_happen_is_refused(wish: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPO_SERVICE_FAILPOINT", wish)
    with pytest.raises(ValueError, match=re.escape(f"HPO_SERVICE_FAILPOINT={wish} is not")):
        failpoint._armed()


@pytest.mark.parametrize("wish, armed", [("claim.bound", {"claim.bound": 1}), ("claim.bound:7", {"claim.bound": 7})])
def test_a_wish_is_a_label_and_a_visit(wish: str, armed: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPO_SERVICE_FAILPOINT", wish)
    assert failpoint._armed() == armed


def test_a_point_kills_only_at_its_last_visit(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[int] = []
    monkeypatch.setattr(failpoint, "_remaining", {"claim.bound": 2})
    monkeypatch.setattr(os, "kill", lambda _pid, number: killed.append(number))
    for label in ("claim.taken", "claim.bound"):
        reach(label)
    assert killed == []
    reach("claim.bound")
    reach("claim.bound")
    assert killed == [signal.SIGKILL]


def test_every_label_is_reached_somewhere_and_every_point_has_a_label() -> None:
    reached = {
        label for file in PACKAGE.rglob("*.py") for label in re.findall(r'\breach\("([a-z.]+)"\)', file.read_text())
    }
    assert reached == set(LABELS)
