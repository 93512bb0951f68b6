"""Trackers beside the study's own database."""
