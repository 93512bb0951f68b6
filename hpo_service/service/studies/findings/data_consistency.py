"""Whether trials that are compared saw the same rows, cut and masked alike."""

from __future__ import annotations

from collections.abc import Iterable

from hpo_service.service.studies.snapshot import TrialView

_MOST_NAMES = 10


def mixed_rows(trials: Iterable[TrialView]) -> str:
    """Say which trials saw other rows than most, or nothing where all saw the same.

    Trials that say nothing about their rows (own objectives, trials that have not ended) are left out.
    """
    groups: dict[str, list[TrialView]] = {}
    for trial in trials:
        if trial.facts.fingerprints.data:
            groups.setdefault(trial.facts.fingerprints.data, []).append(trial)
    if len(groups) < 2:
        return ""
    _, *others = sorted(groups.values(), key=len, reverse=True)
    names = [f"#{trial.number}" for group in others for trial in group]
    shown = ", ".join(names[:_MOST_NAMES]) + (f" and {len(names) - _MOST_NAMES} more" if names[_MOST_NAMES:] else "")
    return (
        f"{shown} saw other rows than the rest: the data or its preparation changed during the study, "
        "so their losses cannot be compared"
    )
