"""What is read across studies and trials, for those who look on."""
