"""What machines are shown: studies, trials, verdicts and workers as plain data that JSON has a form for."""
