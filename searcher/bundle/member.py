"""A trained network with its provenance: what bundles are made of and what they give back."""

from dataclasses import dataclass

from searcher.bundle.manifest import MemberFacts
from searcher.inference.trained import TrainedNetwork

__all__ = ["Member"]


@dataclass(frozen=True)
class Member:
    """A trained network, and what is known of how it came about."""

    network: TrainedNetwork
    facts: MemberFacts
