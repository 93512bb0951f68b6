"""What is done with the configuration that a study recommends: its recipe, its rows, merged weights, a full run."""
