"""The child's end: the pipe to its supervisor, the link of each trial, and the desk that hands out trials."""

from hpo_service.wire.child.dispatcher import Dispatcher, RunTrial, in_turn
from hpo_service.wire.child.failure import may_go_better, reason_of
from hpo_service.wire.child.link import Stopped, TrialLink
from hpo_service.wire.child.pipe import Channel

__all__ = ["Channel", "Dispatcher", "RunTrial", "Stopped", "TrialLink", "in_turn", "may_go_better", "reason_of"]
