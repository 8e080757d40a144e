"""Metrics of predictions against annotations."""
