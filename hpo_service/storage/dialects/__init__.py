"""What SQLite and PostgreSQL say differently: their clocks, addresses, errors, and inserts that may meet a row."""
