"""The worker: a light supervisor that owns leases and a child process that owns the device. No torch here."""
