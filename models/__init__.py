"""Segmentation models: batches in, losses and instance label maps out.

Importing this package does not import torch: `searcher.models.settings` describes every model's parameters for the
study files, `searcher.models.registry` builds the networks.
"""
