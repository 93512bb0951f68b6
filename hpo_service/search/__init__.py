"""Proposing configurations and stopping losers: the only home of Optuna, which is loaded when first needed."""
