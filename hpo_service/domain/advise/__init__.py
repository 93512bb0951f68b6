"""Advice in words: what to set before training, and what a run's curves say after it. Each with its source."""
