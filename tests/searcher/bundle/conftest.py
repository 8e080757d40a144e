import pytest
import torch

from searcher.bundle.contents import weights_files
from searcher.bundle.formats import EXPORTS, ExportFormat, Networks
from searcher.bundle.manifest import DataFacts, MemberFacts
from searcher.bundle.member import BundleMember
from searcher.bundle.write import write_export
from searcher.inference.trained import TrainedNetwork
from searcher.inference.tuning import Tuned
from searcher.models.settings import PostprocessSettings
from searcher.study.config import TrialConfig

SMALL = {
    "unet": {"name": "unet", "base_channels": 2, "depth": 2, "norm": "batch", "head": "contour"},
    "mask_rcnn": {
        "name": "mask_rcnn", "backbone": "efficientnet_lite0", "fpn_channels": 16, "box_layer": 32, "mask_layer": 16,
        "anchor_min_px": 8.0, "anchor_octaves": 3.0, "anchor_aspect": 1.5, "detections_per_image": 10,
        "box_score_threshold": 0.0,
    },
}  # fmt: skip
"""Settings that make each registered model small."""
DATA = DataFacts(name="made up", licence="none needed", fingerprints=("d" * 64,))


def member(
    number: int = 0, of: int = 1, *, seed: int = 0, threshold: float | None = None, **model: object
) -> BundleMember:
    """A network with drawn weights; tuned for the mean of 8 views where a threshold is given."""
    settings = SMALL[model.get("name", "unet")]
    config = TrialConfig.model_validate({"model": settings | model, "train": {"eval_tile_px": 96}})
    torch.manual_seed(seed)
    from searcher.models.registry import build_model

    net = build_model(config.model, config.postprocess)
    tuned = None
    if threshold is not None:
        tuned = Tuned(
            postprocess=PostprocessSettings(threshold=threshold, seed_threshold=threshold),
            tta=True,
            metric="object_dice",
            value_before=0.5,
            value=0.75,
            num_images=3,
        )
    facts = MemberFacts(
        weights=weights_files(of)[number],
        study="s",
        trial=number,
        epoch=2,
        objective="object_dice",
        value=0.5,
        params={"optimizer.lr": 0.01},
        config=config.to_dict(),
        tuned=None if tuned is None else tuned.to_dict(),
        checkpoint_sha256="c" * 64,
        data_fingerprint="d" * 64,
        history={1: {"object_dice": 0.25}, 2: {"object_dice": 0.5}},
        lineage=(),
    )
    return BundleMember(TrainedNetwork(config, net.state_dict(), tuned), facts)


@pytest.fixture(scope="session")
def write():
    """`write_export` with the members' models; a bundle if nothing else is said."""

    def write(target, name, members, *, formats=("bundle",), force=False, **about):
        models = [each.network.model(torch.device("cpu")) for each in members]
        networks = Networks(name=name, members=members, models=models, **about)
        return write_export(target, networks, formats=formats, force=force)

    return write


@pytest.fixture(scope="session")
def new_member():
    return member


@pytest.fixture(scope="session")
def data_facts():
    return DATA


@pytest.fixture
def new_format(monkeypatch):
    """Makes an export format known until the test's end."""

    def register(name, build, **about):
        monkeypatch.setitem(EXPORTS._parts, name, ExportFormat(build, **about))
        monkeypatch.setitem(EXPORTS._origins, name, "theirs 1.0")

    return register
