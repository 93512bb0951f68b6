"""What a study becomes after it was made: extended, or replaced."""
