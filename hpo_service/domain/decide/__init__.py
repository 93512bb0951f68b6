"""Decisions, each with its reason: who is stopped, what is chosen and carried over, and what the numbers prove."""
