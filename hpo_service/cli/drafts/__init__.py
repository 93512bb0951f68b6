"""Commands that write study files for people who have none."""
