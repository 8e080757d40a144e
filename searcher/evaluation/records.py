"""The files that `searcher evaluate --json` and `searcher metrics --json` write, read back for the contest's table."""

EVALUATION_SCHEMA = "searcher-evaluation-1"
"""Of `searcher evaluate`: summaries by split below `splits`."""
METRICS_SCHEMA = "searcher-metrics-1"
"""Of `searcher metrics`: one summary at the top level."""
