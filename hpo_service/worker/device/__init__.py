"""The device that a worker has: whether it may, and whether what was before it has let go."""
