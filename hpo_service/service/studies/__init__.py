"""Whole studies: created, steered, read, and what they prove."""
