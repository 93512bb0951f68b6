"""One run: its job, its steps, what it has shown, its checkpoints, and its result."""
