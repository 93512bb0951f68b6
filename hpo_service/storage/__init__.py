"""The only home of SQLAlchemy and Alembic: the database, its schema, and the stores of our tables."""
