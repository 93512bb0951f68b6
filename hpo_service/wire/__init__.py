"""What a supervisor and its child share: messages, their framing, the folder of an attempt, and the child's end."""
