"""What happens to studies, stages, trials and workers: one table of kinds, and which kind each move is."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from hpo_service.domain.trial.states import StudyState, TrialEvent


class EventKind(StrEnum):
    """What happened, by the name that it is stored under."""

    STUDY_CREATED = "study_created"
    STUDY_EXTENDED = "study_extended"
    STUDY_REPLACED = "study_replaced"
    STUDY_RESUMED = "study_resumed"
    STUDY_PAUSED = "study_paused"
    STUDY_DRAINING = "study_draining"
    STUDY_CANCELLED = "study_cancelled"
    STUDY_FINISHED = "study_finished"
    STUDY_FAILED = "study_failed"
    STUDY_DELETED = "study_deleted"
    STAGE_OPENED = "stage_opened"
    STAGE_CLOSED = "stage_closed"
    STAGE_REOPENED = "stage_reopened"
    STAGE_EXTENDED = "stage_extended"
    STAGE_UNSERVED = "stage_unserved"
    TRIAL_PROMOTED = "trial_promoted"
    TRIAL_CLAIMED = "trial_claimed"
    TRIAL_COMPLETE = "trial_complete"
    TRIAL_PRUNED = "trial_pruned"
    TRIAL_INFEASIBLE = "trial_infeasible"
    TRIAL_FAILED = "trial_failed"
    TRIAL_CANCELLED = "trial_cancelled"
    TRIAL_COPIED = "trial_copied"
    TRIAL_ERROR = "trial_error"
    TRIAL_GIVEN_BACK = "trial_given_back"
    CHECKPOINT_LOST = "checkpoint_lost"
    LEASE_LOST = "lease_lost"
    TRIAL_STOP_ASKED = "trial_stop_asked"
    TRIAL_RETRIED = "trial_retried"
    WORKER_JOINED = "worker_joined"
    WORKER_DRAINING = "worker_draining"
    WORKER_LEFT = "worker_left"
    WORKER_LOST = "worker_lost"
    WORKER_RETURNED = "worker_returned"
    LAUNCH_STARTED = "launch_started"
    LAUNCH_SCALED = "launch_scaled"
    LAUNCH_ENDED = "launch_ended"


_K = EventKind

TEXTS: Mapping[EventKind, str] = {
    _K.STUDY_CREATED: "the study was created",
    _K.STUDY_EXTENDED: "the study may have more trials, seeds or values than its file said",
    _K.STUDY_REPLACED: "a study that had measured nothing gave way to the corrected file",
    _K.STUDY_RESUMED: "the study goes on",
    _K.STUDY_PAUSED: "the study was paused: running trials are given back, none is handed out",
    _K.STUDY_DRAINING: "the study drains: running trials end, none is handed out",
    _K.STUDY_CANCELLED: "the study was cancelled",
    _K.STUDY_FINISHED: "the study has finished",
    _K.STUDY_FAILED: "the study has failed",
    _K.STUDY_DELETED: "a study was deleted, with everything about it but this",
    _K.STAGE_OPENED: "a stage began, with what was chosen for it and why",
    _K.STAGE_CLOSED: "a stage has ended: the study advances",
    _K.STAGE_REOPENED: "a stage that had ended takes trials up again",
    _K.STAGE_EXTENDED: "what a stage measured calls for more trials in it",
    _K.STAGE_UNSERVED: "no worker that is there has what the trials of the stage need",
    _K.TRIAL_PROMOTED: "a configuration was carried on into this stage",
    _K.TRIAL_CLAIMED: "a worker took the trial",
    _K.TRIAL_COMPLETE: "the trial ran to the end",
    _K.TRIAL_PRUNED: "the trial was stopped early",
    _K.TRIAL_INFEASIBLE: "the trial cannot be run as configured",
    _K.TRIAL_FAILED: "the trial was given up",
    _K.TRIAL_CANCELLED: "the trial was cancelled",
    _K.TRIAL_COPIED: "the trial repeats another's configuration and has its value",
    _K.TRIAL_ERROR: "an attempt failed; the trial waits for the next one",
    _K.TRIAL_GIVEN_BACK: "the holder gave the trial back on purpose",
    _K.CHECKPOINT_LOST: "a checkpoint could not be saved, copied to the store or fetched; the trial goes on",
    _K.LEASE_LOST: "the holder fell silent; the trial was taken back",
    _K.TRIAL_STOP_ASKED: "somebody asked for the end of a running trial",
    _K.TRIAL_RETRIED: "the trial is to be tried again",
    _K.WORKER_JOINED: "a worker registered",
    _K.WORKER_DRAINING: "a worker was told to give its trials back and leave",
    _K.WORKER_LEFT: "a worker ended",
    _K.WORKER_LOST: "a worker fell silent",
    _K.WORKER_RETURNED: "a worker that had fallen silent was heard from again",
    _K.LAUNCH_STARTED: "workers of the study were launched",
    _K.LAUNCH_SCALED: "another number of workers is wanted of a launch",
    _K.LAUNCH_ENDED: "a launch has ended: it starts no more workers",
}
"""Every kind, and what it means."""

OF_STUDY: Mapping[StudyState, EventKind] = {
    StudyState.ACTIVE: _K.STUDY_RESUMED,
    StudyState.PAUSED: _K.STUDY_PAUSED,
    StudyState.DRAINING: _K.STUDY_DRAINING,
    StudyState.CANCELLED: _K.STUDY_CANCELLED,
    StudyState.FINISHED: _K.STUDY_FINISHED,
    StudyState.FAILED: _K.STUDY_FAILED,
}
"""What it is that a study came into a state."""

OF_TRIAL: Mapping[TrialEvent, EventKind] = {
    TrialEvent.CLAIM: _K.TRIAL_CLAIMED,
    TrialEvent.COMPLETE: _K.TRIAL_COMPLETE,
    TrialEvent.PRUNE: _K.TRIAL_PRUNED,
    TrialEvent.INFEASIBLE: _K.TRIAL_INFEASIBLE,
    TrialEvent.ERROR: _K.TRIAL_ERROR,
    TrialEvent.GIVE_UP: _K.TRIAL_FAILED,
    TrialEvent.RELEASE: _K.TRIAL_GIVEN_BACK,
    TrialEvent.EXPIRE: _K.LEASE_LOST,
    TrialEvent.CANCEL: _K.TRIAL_CANCELLED,
    TrialEvent.RETRY: _K.TRIAL_RETRIED,
}
"""What it is that a trial made a move; a report is none: it has a row of its own."""

OWN_ACCORD = "left of its own accord"
"""Why a worker left that nothing was wrong with."""

TOLD = frozenset(
    {_K.STAGE_CLOSED, _K.STAGE_UNSERVED, _K.STUDY_FINISHED, _K.STUDY_FAILED, _K.STUDY_PAUSED}
    | {_K.WORKER_LEFT, _K.WORKER_LOST}
)
"""What webhooks may be told: that a stage or a study has ended, and trouble."""


def is_told(kind: EventKind, reason: str, by: str) -> bool:
    """Say whether webhooks are told: not of what a person did, nor of a worker that left in good order."""
    return kind in TOLD and not by and reason != OWN_ACCORD
