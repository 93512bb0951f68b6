"""From a small model to a large one: scaling rules, what a target showed, and what later studies learn from it."""
