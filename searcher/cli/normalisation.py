"""`--normalisation`: another way to 0..255 than that of the training."""

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from searcher.inference.predictor import Predictor

__all__ = ["add_normalisation", "normalise_as_wished"]


def add_normalisation(parser: argparse.ArgumentParser) -> None:
    """Add the option."""
    parser.add_argument(
        "--normalisation",
        choices=("bundle", "fixed", "percentile"),
        default="bundle",
        help="how values become 0..255: as in training (bundle, the default), as they are (fixed), or by two "
        "percentiles of each image and channel, which takes the exposure out",
    )


def normalise_as_wished(predictor: "Predictor", wish: str) -> None:
    """Let a predictor take images as the option says."""
    from data_pipeline.normalisation import Normalisation

    kind = predictor.kind
    if wish == "bundle" or wish == kind.normalisation.kind:
        return
    normalisation = Normalisation("percentile" if wish == "percentile" else "fixed")
    predictor.kind = replace(kind, normalisation=normalisation)
