"""Rows by the million: read and tokenised in batches, on all cores, with what is large kept on disk."""
