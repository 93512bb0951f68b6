"""The child's end: the pipe to its supervisor, the link of each trial, and the desk that hands out trials."""

from hpo_service.channel.host import Host, RunTrial, in_turn
from hpo_service.channel.link import Stopped, TrialLink
from hpo_service.channel.pipe import Channel
from hpo_service.channel.verdict import may_go_better, reason_of

__all__ = ["Channel", "Host", "RunTrial", "Stopped", "TrialLink", "in_turn", "may_go_better", "reason_of"]
