"""The checks of an export format: what `searcher export` relies on."""

import tempfile
from pathlib import Path

import torch

from searcher.bundle.contents import weights_files
from searcher.bundle.formats import BUNDLE, EXPORTS, Networks
from searcher.bundle.load import load_bundle
from searcher.bundle.manifest import DataFacts, MemberFacts
from searcher.bundle.member import BundleMember
from searcher.bundle.write import write_export
from searcher.exceptions import UserError
from searcher.inference.trained import TrainedNetwork
from searcher.models.registry import build_model
from searcher.study.config import TrialConfig

__all__ = ["check_export"]

_DIGEST = "0" * 64


def check_export(name: str, *, num_networks: int = 1) -> None:
    """Check that an export format writes a small U-Net, alone and with a bundle, without changing the network.

    Args:
        name: Name of the format in `searcher export --as`.
        num_networks: Number of networks; more than one are an ensemble.

    Raises:
        AssertionError: The check failed; the message says why.
        UserError: The format refuses these networks.
        PluginError: The format raised another error, or wrote files that are not allowed.
    """
    networks = _networks(num_networks)
    check = EXPORTS[name].check
    if check is not None:
        check(networks.models)
    before = [{key: value.clone() for key, value in model.state_dict().items()} for model in networks.models]
    with tempfile.TemporaryDirectory() as folder:
        alone = write_export(Path(folder, "alone"), networks, formats=(name,))
        again = write_export(Path(folder, "alone"), networks, formats=(name,), force=True)
        _claim(alone.files.keys() == again.files.keys(), "must write files of the same names every time")
        beside = write_export(Path(folder, "beside"), networks, formats=tuple(dict.fromkeys((BUNDLE, name))))
        try:
            opened = load_bundle(Path(folder, "beside"))
        except UserError as error:
            raise AssertionError(f"must leave the bundle beside it as it is, got: {error}") from error
        _claim(len(opened.members) == num_networks, "must leave the bundle beside it as it is")
        _claim(
            alone.formats[name].keys() == beside.formats[name].keys(), "must keep the same beside a bundle"
        )
    for model, was in zip(networks.models, before, strict=True):
        changed = [key for key, value in model.state_dict().items() if not torch.equal(value, was[key])]
        _claim(not changed, f"must leave the weights as they are, got others in {changed}")
        _claim(not model.training, "must leave the models in evaluation mode")


def _networks(num: int) -> Networks:
    config = TrialConfig.model_validate({"model": {"base_channels": 2, "depth": 1}})
    members = []
    for number, weights in enumerate(weights_files(num)):
        facts = MemberFacts(
            weights=weights,
            study=None,
            trial=None,
            epoch=1,
            objective="object_dice",
            value=0.5,
            params={},
            config=config.to_dict(),
            tuned=None,
            checkpoint_sha256=_DIGEST,
            data_fingerprint=_DIGEST,
            history={},
            lineage=(),
        )
        torch.manual_seed(number)
        state = build_model(config.model, config.postprocess).state_dict()
        members.append(BundleMember(TrainedNetwork(config, state, None), facts))
    return Networks(
        name="checked",
        members=members,
        models=[member.network.model(torch.device("cpu")) for member in members],
        data=DataFacts(name="none", licence="none", fingerprints=(_DIGEST,)),
        size_px=32,
    )


def _claim(holds: bool, otherwise: str) -> None:
    if not holds:
        raise AssertionError(otherwise)
