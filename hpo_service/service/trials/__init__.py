"""One trial at a time: claimed, reported, ended, taken back from holders that fell silent."""
