"""Sweep files of Weights & Biases, in the terms of a study file; what has no counterpart is named."""
