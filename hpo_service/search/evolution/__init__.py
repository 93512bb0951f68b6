"""CMA-ES over the space: a normal distribution of the numbers and one of the choices that follow what was good."""
