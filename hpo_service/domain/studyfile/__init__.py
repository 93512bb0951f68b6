"""From the text of a study file to a study, and back to the line that is wrong."""
