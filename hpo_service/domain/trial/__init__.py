"""A trial as data: its states and how it ends, its configuration, and what is exchanged about it."""
