"""Objectives of the user's own: a Python function or a command, with leases, pruning and resume like the trainer."""

from hpo_service.objective.context import TrialContext

__all__ = ["TrialContext"]
