"""What a study needs of machines: memory of GPUs, and disk."""
