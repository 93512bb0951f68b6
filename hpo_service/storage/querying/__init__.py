"""Questions in SQL, read-only by the database's own means."""
