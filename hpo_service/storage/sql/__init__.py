"""What statements are made of: the database's clock, and inserts that lose cleanly."""
