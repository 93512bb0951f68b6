"""A trial in the database: its row, attempts, reports and scores, and what is counted of trials without loading them."""
