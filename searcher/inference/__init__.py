"""Trained models at work: one or several of them, whichever way up an image lies, and the way to instances tuned."""
