"""What may be told of a study before it runs, from what earlier studies of the database measured."""
