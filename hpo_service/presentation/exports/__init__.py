"""What a person takes home of a study: the best adapter with its configuration, and tables."""

from hpo_service.presentation.exports.best import write_best
from hpo_service.presentation.exports.tables import write_tables

__all__ = ["write_best", "write_tables"]
