"""What a person keeps of a study: `report.html`, `best/` (the adapter with its configuration), and its tables."""

from hpo_service.report.best import write_best
from hpo_service.report.export import write_tables
from hpo_service.report.page import write_report

__all__ = ["write_best", "write_report", "write_tables"]
