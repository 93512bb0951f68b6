"""A study as data: its sections, its search space, the methods, and what goes together."""
