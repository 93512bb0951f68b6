"""`report.html`: a study on one page, with the reason of every decision."""

from hpo_service.presentation.report.page import write_report

__all__ = ["write_report"]
