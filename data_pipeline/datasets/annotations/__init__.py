"""Annotation files of other programs: each module reads one format into shapes, and `painting` into label maps."""
