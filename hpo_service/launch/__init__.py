"""Putting workers where the devices are."""
