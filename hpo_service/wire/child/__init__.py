"""The child's end: the pipe to its supervisor, the link of each trial, and who hands trials to an engine."""

from hpo_service.wire.child.dispatcher import Dispatcher, RunTrial, in_turn
from hpo_service.wire.child.failure import is_retryable, reason_of
from hpo_service.wire.child.link import Stopped, TrialLink
from hpo_service.wire.child.pipe import Channel

__all__ = ["Channel", "Dispatcher", "RunTrial", "Stopped", "TrialLink", "in_turn", "is_retryable", "reason_of"]
