"""A trial in the database: its row, attempts, reports, scores, and what is counted of trials without loading them."""
