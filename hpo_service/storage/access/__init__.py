"""Who may use the server, and what their requests were answered."""
