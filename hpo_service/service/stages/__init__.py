"""How a study moves on: what the next stage consists of, and when it opens."""
