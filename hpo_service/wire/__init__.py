"""What a supervisor and its child exchange: messages, reports not yet delivered, and the child's end of the pipe."""
