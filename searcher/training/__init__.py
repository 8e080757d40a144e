"""Training one trial: no ray, no optuna, no SQL."""
