"""Optuna dashboard on the study database, behind a guard: who may look, and that looking changes nothing."""
