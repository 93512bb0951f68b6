"""optuna-dashboard: its routes behind the door, and what it shows of ours beside values, notes and artifacts."""
