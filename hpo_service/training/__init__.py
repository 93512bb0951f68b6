"""The trainer: a child process that owns the device and trains trials; the only home of torch."""
