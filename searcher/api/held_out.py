"""The images that trained networks were validated on and did not train on: an estimate where there is no test split."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from searcher.data_pipeline.exceptions import DataError
from searcher.exceptions import UserError
from searcher.training.dataset import split_store

if TYPE_CHECKING:
    from searcher.api.networks import FoundNetworks
    from searcher.bundle.member import BundleMember
    from searcher.data_pipeline.store import Store
    from searcher.inference.predictor import Predictor

__all__ = ["HELD_OUT", "held_out", "predictor_of_some"]

HELD_OUT = "held-out"
"""What `--splits` calls them."""


def held_out(
    members: "Sequence[BundleMember]", store: "Store", folder: str
) -> dict[tuple[int, ...], list[int]]:
    """Return the images that networks were validated on, grouped by the networks that held them out.

    Args:
        members: The networks.
        store: The store of the data set on which the networks were trained.
        folder: Folder or URI of the data set, for messages.

    Returns:
        A dictionary. Each key has the numbers of the networks that held images out, as indices of `members`; its value
        has the indices of the images that exactly these networks held out.

    Raises:
        UserError: The networks were trained on other data, or the data cannot be split as the networks' configuration
            says.
    """
    other = [member for member in members if member.facts.data_fingerprint != store.fingerprint]
    if other:
        there = ", ".join(dict.fromkeys(sample.split for sample in store.samples))
        raise UserError(
            f"--data {folder}: must have a split to measure on, or be the data that the networks were trained on, got "
            f"other data with only {there}; name one with --splits, or add a column split to samples.csv; for "
            "the images that they held out give their data, with the same --labels-are, --patient-from and --val-region"
        )
    validated: dict[int, list[int]] = {}
    for number, member in enumerate(members):
        try:
            split = split_store(store, member.network.config.data)
        except DataError as error:
            raise UserError(f"--splits {HELD_OUT}: {error}") from error
        for index in split.val:
            validated.setdefault(index, []).append(number)
    groups: dict[tuple[int, ...], list[int]] = {}
    for index in sorted(validated):
        groups.setdefault(tuple(validated[index]), []).append(index)
    return groups


def predictor_of_some(found: "FoundNetworks", numbers: Sequence[int], whole: "Predictor") -> "Predictor":
    """Return a predictor of some of the networks, with the settings of the predictor of all.

    Args:
        found: All networks.
        numbers: Numbers of the networks to use, from 0.
        whole: The predictor of all networks.
    """
    from searcher.inference.precision import default_device
    from searcher.inference.trained import predictor_of

    device = default_device()
    networks = [found.members[number].network for number in numbers]
    models = [network.model(device) for network in networks]
    some = predictor_of(networks, models, device=device, tta=whole.tta)
    some.postprocess, some.kind = whole.postprocess, whole.kind
    return some
