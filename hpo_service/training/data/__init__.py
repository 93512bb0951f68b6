"""The rows of a study: read, understood, split, tokenised, cached, and made into batches."""
