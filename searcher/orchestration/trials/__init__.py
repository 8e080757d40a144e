"""The trials of a launch: proposed, trained by workers, watched, pruned and ended."""
