"""The sections of a study file, a model each."""
