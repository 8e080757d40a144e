"""`--normalisation`: another way to 0..255 than that of the training."""

import argparse

__all__ = ["add_normalisation"]


def add_normalisation(parser: argparse.ArgumentParser) -> None:
    """Add the option."""
    parser.add_argument(
        "--normalisation",
        choices=("bundle", "fixed", "percentile"),
        default="bundle",
        help="how values become 0..255: as in training (bundle, the default), as they are (fixed), or by two "
        "percentiles of each image and channel, which takes the exposure out",
    )
