"""What a person keeps of a study: `report.html`, one file, and `best/`, the adapter with its configuration."""

from hpo_service.report.best import write_best
from hpo_service.report.page import write_report

__all__ = ["write_best", "write_report"]
