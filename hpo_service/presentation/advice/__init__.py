"""Advice and diagnoses as texts, tables, pictures and plain data."""
