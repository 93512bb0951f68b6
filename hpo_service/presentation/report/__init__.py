"""`report.html`: a study on one page, with the reason of every decision."""
