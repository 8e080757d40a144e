"""Launches that outlive the terminal, as jobs of a cluster."""
