"""The study manager: lifecycle of studies, claim/report/finish of trials, stages, reaper and reports."""
