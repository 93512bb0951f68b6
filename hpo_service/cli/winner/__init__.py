"""Commands that take a study's winner home: export, train, merge, push."""
