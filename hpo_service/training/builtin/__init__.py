"""Models and data that the project makes itself."""
