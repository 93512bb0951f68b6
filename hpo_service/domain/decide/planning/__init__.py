"""What each stage consists of: planners, by the name that a stage's row gives."""
