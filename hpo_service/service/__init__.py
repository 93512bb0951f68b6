"""The study manager: lifecycle of studies, the queue of trials, stages."""
