"""What is shown to people and machines: documents, summaries, the report, exports. No transaction, no rule."""
