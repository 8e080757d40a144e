"""A trained network with its provenance: what bundles are made of and what they give back."""

from dataclasses import dataclass, replace
from typing import Self

from searcher.bundle.manifest import MemberFacts
from searcher.inference.trained import TrainedNetwork
from searcher.inference.tuning import Tuned
from searcher.renamed import old_names

__all__ = ["BundleMember"]


@dataclass(frozen=True)
class BundleMember:
    """A trained network, and the facts about its training."""

    network: TrainedNetwork
    facts: MemberFacts
    pixel_size_um: float | None = None
    """Side of a pixel of the images that it was trained on, as its checkpoint says."""

    def with_tuning(self, tuned: Tuned) -> Self:
        """Return a copy of the member with other tuned post-processing."""
        network = replace(self.network, tuned=tuned)
        return replace(self, network=network, facts=self.facts.model_copy(update={"tuned": tuned.to_dict()}))


__getattr__ = old_names(__name__)
