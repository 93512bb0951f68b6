"""What a study found: its verdict, what carrying over showed, and whether its trials saw the same rows."""
