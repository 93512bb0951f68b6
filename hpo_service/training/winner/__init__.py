"""What is done with a study's winner in child processes: its rows written out, weights merged, a full run."""
