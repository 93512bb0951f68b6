"""What a person takes home of a study: each export is a row of a table, and a file."""
