"""How much device memory a trial needs, and what fits."""
