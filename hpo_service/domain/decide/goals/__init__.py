"""What trials cost beside their loss: limits that they must keep, and goals that are weighed against each other."""
