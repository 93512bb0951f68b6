"""Commands that read what the database holds: what happened, and answers to questions in SQL."""
