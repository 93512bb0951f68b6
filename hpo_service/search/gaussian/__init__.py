"""A Gaussian process over the space, in NumPy and SciPy: what good trials tell of the configurations between them."""
