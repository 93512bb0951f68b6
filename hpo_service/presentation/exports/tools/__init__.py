"""A study's winner as input of other tools: each tool is a row of a table, and a file."""

NAMES = ("trl", "axolotl", "llamafactory", "peft", "script")
"""Of the table's rows, for the command line, which reads them at every start and loads the table when it is needed."""
