"""Data sets as other programs read them."""
