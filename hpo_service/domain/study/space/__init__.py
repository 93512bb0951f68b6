"""Questions about single values of a search space."""
