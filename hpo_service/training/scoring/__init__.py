"""How good a model is: losses row by row, and answers."""
