"""Trained models on images of any size: from files to labelled, measured, outlined objects in files."""
