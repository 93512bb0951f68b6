"""Rows as they lie somewhere: found, read, and their columns called what the trainer calls them."""
