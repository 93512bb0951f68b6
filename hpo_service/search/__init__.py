"""Proposing, pruning, and keeping Optuna's studies: the only home of Optuna, which is loaded when first needed."""
