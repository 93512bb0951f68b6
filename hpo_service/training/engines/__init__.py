"""Who trains: one trial with the Trainer, or several in one forward; and which of the two runs what."""
