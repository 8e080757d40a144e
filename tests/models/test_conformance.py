"""What every registered model must do, whatever its network. A new model is tested by being registered."""

import copy
from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from learning import f1_by_heart
from safetensors.torch import load_model, save_model

from searcher.models.base import DenseModel, SegmentationModel, TensorBatch
from searcher.models.registry import build_model, names
from searcher.models.settings import SETTINGS, PostprocessSettings

SMALL = {
    "unet": {"base_channels": 4, "depth": 2},
    "mask_rcnn": {
        "backbone": "resnet18",
        "fpn_channels": 32,
        "box_layer": 64,
        "mask_layer": 32,
        "anchor_min_px": 8.0,
        "anchor_octaves": 2.0,
        "rpn_proposals": 100,
        "rpn_samples": 64,
        "box_samples": 64,
    },
}
"""Settings that make a model small enough for tests, by its name."""

LEARNING = {"unet": (0.01, 80), "mask_rcnn": (0.001, 60)}
"""Learning rate of Adam and number of steps, at most, with which the small model learns a few images by heart."""

VARIANTS = {
    "unet": [
        {},
        {"norm": "batch", "loss": "dice", "dropout": 0.3, "depth": 1},
        {"norm": "group", "loss": "bce+dice", "upsampling": "bilinear", "channels": 4, "input_scale": 1.5},
        {"base_channels": 1, "depth": 5, "norm": "batch", "head": "contour", "loss": "ce+dice"},
        {"base_channels": 1, "depth": 5, "norm": "group", "encoder": "residual", "border_weight": 2.0},
        {"head": "distance", "loss": "focal", "border_weight": 10.0, "deep_supervision": True},
        {"encoder": "residual", "head": "contour", "loss": "focal+dice", "input_scale": 0.5, "norm": "batch"},
        {"encoder": "resnet18", "depth": 5, "norm": "group", "head": "distance", "channels": 1},
        {"encoder": "efficientnet_lite0", "depth": 3, "norm": "batch", "head": "contour", "loss": "ce"},
        # As built, without the weights.
        {"encoder": "resnet18", "weights": "imagenet", "deep_supervision": True},
    ],
    "mask_rcnn": [
        {},
        {
            "backbone": "efficientnet_lite0",
            "norm": "batch",
            "version": "v2",
            "input_scale": 0.5,
            "channels": 4,
        },
        # As built, without the weights.
        {
            "weights": "imagenet",
            "trainable_layers": 1,
            "input_scale": 0.0,
            "min_size_px": 64,
            "version": "v2",
        },
    ],
}
"""Settings beside the small ones with which each model must conform, by its name.

Every value of a setting is there, several in one variant where they do not depend on one another.
"""

CASES = [(name, variant) for name in names() for variant in VARIANTS[name]]

COMPILED = [
    (name, variant)
    for name, variant in CASES
    if {"input_scale", "deep_supervision", "encoder", "backbone"} & variant.keys()
    and "base_channels" not in variant
]
"""Those that run other code, not the same layers in other numbers: a compiler takes seconds for each."""


def case_name(case: tuple[str, dict[str, object]]) -> str:
    """Return a variant's name in pytest's lines."""
    return "-".join([case[0], *(f"{key}={value}" for key, value in case[1].items())])


Build = Callable[[], SegmentationModel]


class Shape:
    """Of the images that the tests make: a model is shown as many channels as it was built for."""

    channels = 3


@pytest.fixture(params=CASES, ids=case_name)
def build(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Build:
    """Builds one model, always with the same weights."""
    name, variant = request.param
    monkeypatch.setattr(Shape, "channels", variant.get("channels", 3))

    def seeded() -> SegmentationModel:
        torch.manual_seed(0)
        return build_model(SETTINGS[name](**{**SMALL[name], **variant}), PostprocessSettings())

    return seeded


@pytest.fixture
def case_number(request: pytest.FixtureRequest) -> int:
    """The variant's place among all."""
    return CASES.index(request.node.callspec.params["build"])


@pytest.fixture(scope="module")
def built() -> dict[str, SegmentationModel]:
    """Models by the fixture's id: drawing the weights of a large encoder takes longer than copying them."""
    return {}


@pytest.fixture
def model(
    build: Build, built: dict[str, SegmentationModel], request: pytest.FixtureRequest
) -> SegmentationModel:
    """A model of its own for each test, with the weights that `build` gives."""
    name = str(request.node.callspec.params["build"])
    if name not in built:
        built[name] = build()
    return copy.deepcopy(built[name])


def discs(size: tuple[int, int], *circles: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Dark discs (row, column, radius) on a light, noisy ground, and their labels from 1."""
    labels = np.zeros(size, np.int32)
    for label, (y, x, radius) in enumerate(circles, start=1):
        cv2.circle(labels, (x, y), radius, label, -1)
    noise = np.random.default_rng(len(circles)).normal(0, 12, (*size, Shape.channels))
    image = np.where(labels[..., None] > 0, 90, 190) + noise
    return image.clip(0, 255).astype(np.uint8), labels


def batch_of(*samples: tuple[np.ndarray, np.ndarray]) -> TensorBatch:
    images, labels = (torch.from_numpy(np.stack(arrays)) for arrays in zip(*samples, strict=True))
    return TensorBatch(images, labels)


EMPTY = np.zeros((60, 80), np.int32)
# 200 glands of 4 by 3 px, one or two apart: also at half scale no detector takes them for too small.
TINY = np.zeros((60, 80), np.int32)
for row, column in np.ndindex(4, 3):
    TINY[row::6, column::4][:10] = np.arange(1, 201).reshape(10, 20)
LABELS = {
    "empty": EMPTY,
    "one huge gland": np.ones_like(EMPTY),
    "200 tiny glands": TINY,
    "labels above 255": np.where(TINY > 0, TINY * 1000, 0).astype(np.int32),
}


def assert_trains(model: SegmentationModel, batch: TensorBatch) -> None:
    """Losses are finite scalars whose sum reaches every trainable parameter with a finite gradient."""
    model.zero_grad(set_to_none=True)
    losses = model.training_step(batch)
    assert losses
    for name, loss in losses.items():
        assert loss.shape == (), name
        assert loss.dtype == torch.float32, name
        assert torch.isfinite(loss), name
    torch.stack(list(losses.values())).sum().backward()
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            assert parameter.grad is None, name
            continue
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def assert_predicts(model: SegmentationModel, images: torch.Tensor) -> None:
    """One label map per image at its own size, labels 1 to n without gaps, a score for each."""
    predictions = model.predict(images)
    assert len(predictions) == len(images)
    for prediction in predictions:
        assert prediction.labels.shape == images.shape[1:3]
        assert prediction.labels.dtype == np.int32
        count = len(prediction.scores)
        assert np.unique(prediction.labels[prediction.labels != 0]).tolist() == list(range(1, count + 1))
        assert prediction.scores.dtype == np.float32
        assert ((prediction.scores > 0) & (prediction.scores <= 1)).all()


SIZES = [
    ((1, 1), 1),  # where a norm has one value
    ((17, 23), 3),
    ((1, 1), 3),
    ((1, 9), 1),
    ((5, 3), 3),
    ((16, 16), 1),
    ((64, 64), 3),
    ((100, 37), 1),
]
"""Of images, and of a batch."""


@pytest.mark.parametrize("number", range(3))
def test_any_size_any_batch(model, case_number, number):
    """The two hardest sizes for every variant, the others in turn."""
    size, batch_size = SIZES[number if number < 2 else 2 + case_number % (len(SIZES) - 2)]
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(
        0, 256, (batch_size, *size, Shape.channels), dtype=torch.uint8, generator=generator
    )
    labels = torch.randint(0, 3, (batch_size, *size), dtype=torch.int32, generator=generator)
    assert_trains(model, TensorBatch(images, labels))
    assert_predicts(model.eval(), images)


@pytest.mark.parametrize("case", LABELS)
def test_any_labels(model, case):
    labels = LABELS[case]
    assert len(np.unique(labels)) == {"empty": 1, "one huge gland": 1}.get(case, 201)
    noise = np.random.default_rng(0).integers(0, 60, (*labels.shape, Shape.channels))
    batch = batch_of((np.where(labels[..., None] > 0, 90 + noise, 190 + noise).astype(np.uint8), labels))
    assert_trains(model, batch)
    assert_predicts(model.eval(), batch.images)


def test_validation_loss_needs_no_graph_and_changes_nothing(model):
    batch = batch_of(discs((32, 32), (16, 16, 8)))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.eval()
    with torch.no_grad():
        first, second = model.training_step(batch), model.training_step(batch)
    assert first == second
    assert not any(loss.requires_grad for loss in first.values())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_prediction_in_eval_mode_is_deterministic(model):
    images = batch_of(discs((40, 56), (12, 12, 8), (28, 40, 9))).images
    first, second = model.eval().predict(images)[0], model.predict(images)[0]
    np.testing.assert_array_equal(first.labels, second.labels)
    np.testing.assert_array_equal(first.scores, second.scores)


def test_prediction_is_the_same_alone_or_in_a_batch(model):
    model.eval()
    images = batch_of(discs((40, 56), (12, 12, 8)), discs((40, 56), (28, 40, 9), (9, 9, 5))).images
    together, alone = model.predict(images)[1], model.predict(images[1:])[0]
    assert np.mean(together.labels != alone.labels) < 1e-3  # convolutions may round otherwise


def test_inputs_are_left_alone(model):
    batch = batch_of(discs((32, 32), (16, 16, 8)))
    images, labels = batch.images.clone(), batch.labels.clone()
    model.training_step(batch)
    model.eval().predict(batch.images)
    assert torch.equal(batch.images, images)
    assert torch.equal(batch.labels, labels)


def test_same_seed_same_weights(build):
    first, second = build().state_dict(), build().state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_state_dict_round_trip(build, tmp_path):
    """Trained, saved, loaded as data alone: predicts the same, also with running statistics of a norm."""
    model, batch = build(), batch_of(discs((40, 56), (12, 12, 8)), discs((40, 56), (28, 40, 9)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        torch.stack(list(model.training_step(batch).values())).sum().backward()
        optimizer.step()
    torch.save(model.state_dict(), tmp_path / "weights.pt")

    loaded = build()
    loaded.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    expected, found = (m.eval().predict(batch.images) for m in (model, loaded))
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_array_equal(one.labels, other.labels)
        np.testing.assert_array_equal(one.scores, other.scores)


def test_safetensors_round_trip(build, tmp_path):
    """As a bundle keeps a model: settings as JSON, weights as plain tensors, nothing pickled."""
    model, batch = build().eval(), batch_of(discs((40, 56), (12, 12, 8), (28, 40, 9)))
    save_model(model, tmp_path / "weights.safetensors")
    loaded = build()
    for parameter in loaded.parameters():
        torch.nn.init.zeros_(parameter)
    missing, unexpected = load_model(loaded, tmp_path / "weights.safetensors")
    assert (list(missing), list(unexpected)) == ([], [])
    [expected], [found] = (each.eval().predict(batch.images) for each in (model, loaded))
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_encoder_and_head_are_two_ends_of_the_model(model):
    """Parts of it, without a parameter in common, and something between them or in them to train."""
    own = {id(parameter) for parameter in model.parameters()}
    encoder, head = ({id(p) for part in end for p in part.parameters()} for end in model.parts())
    assert encoder
    assert head
    assert encoder | head < own
    assert not encoder & head


@pytest.mark.parametrize("end", ["encoder", "head"])
def test_it_trains_with_either_end_frozen(model, end):
    for part in getattr(model.parts(), end):
        part.requires_grad_(False)
    assert_trains(model, batch_of(discs((48, 40), (16, 16, 8))))


def test_what_is_taken_over_from_another_model_is_among_what_fits(build):
    """And is all that is learned: every parameter."""
    model = build()
    name = next(name for name in names() if type(model).__module__ == f"searcher.models.{name}")
    taken = model.transferable(model.state_dict().keys(), SETTINGS[name]())
    assert {name for name, _ in model.named_parameters()} <= taken <= model.state_dict().keys()
    assert model.transferable([], SETTINGS[name]()) == set()


def test_the_settings_that_can_be_tuned_are_settings(model):
    assert set(model.postprocess_keys) <= set(PostprocessSettings.model_fields)
    assert len(set(model.postprocess_keys)) == len(model.postprocess_keys) > 0


@pytest.mark.parametrize("build", COMPILED, ids=case_name, indirect=True)
def test_compiling_in_place_changes_no_name_and_no_loss(build):
    """Traced by Dynamo with the eager backend: what needs a compiler of the machine is left out."""
    torch._dynamo.reset()  # it gives up on a function after a few versions, those of earlier tests included
    batch = batch_of(discs((32, 48), (16, 16, 8)))
    plain, compiled = build().eval(), build().eval()
    compiled.compile(backend="eager", fullgraph=True)
    with torch.no_grad():
        assert compiled.training_step(batch) == plain.training_step(batch)
    assert compiled.state_dict().keys() == plain.state_dict().keys()


def test_autocast_leaves_losses_and_probabilities_in_float32(model):
    batch = batch_of(discs((32, 32), (16, 16, 8)))
    with torch.autocast("cpu", torch.bfloat16):
        assert_trains(model, batch)
        if isinstance(model, DenseModel):
            assert model.eval().predict_maps(batch.images).dtype == torch.float32


def test_channels_last_gives_the_same(model):
    batch = batch_of(discs((32, 48), (16, 16, 8)))
    model.eval()
    with torch.no_grad():
        expected = model.training_step(batch)
        found = model.to(memory_format=torch.channels_last).training_step(batch)
    assert {name: loss.item() for name, loss in found.items()} == pytest.approx(
        {name: loss.item() for name, loss in expected.items()}, rel=1e-4
    )


def test_maps_then_instances_is_the_prediction(model):
    """So that tiles can be stitched in between."""
    if not isinstance(model, DenseModel):
        pytest.skip("not a dense model")
    images = batch_of(discs((40, 56), (12, 12, 8))).images
    maps = model.eval().predict_maps(images)
    assert maps.shape[0] == 1
    assert maps.shape[2:] == (40, 56)
    assert ((maps >= 0) & (maps <= 1)).all()
    composed, predicted = model.instances_from_maps(maps[0].numpy()), model.predict(images)[0]
    np.testing.assert_array_equal(composed.labels, predicted.labels)
    np.testing.assert_array_equal(composed.scores, predicted.scores)


def test_postprocessing_may_be_replaced(model):
    images = batch_of(discs((40, 56), (12, 12, 8))).images
    model.eval().postprocess = PostprocessSettings(min_object_area_px=40 * 56 + 1)
    prediction = model.predict(images)[0]
    assert prediction.labels.max() == 0
    assert prediction.scores.shape == (0,)


LEARNERS = [(name, {}, name != "unet") for name in names()] + [
    ("unet", {"head": "contour", "contour_width_px": 2}, True),
    ("unet", {"head": "distance", "norm": "batch"}, True),
    ("unet", {"encoder": "residual", "loss": "focal+dice"}, False),
    ("unet", {"input_scale": 0.5, "norm": "batch"}, False),
]
"""Name, variant, and whether touching glands are told apart: not by a U-Net with a binary head."""


@pytest.mark.parametrize(("name", "variant", "tells_apart"), LEARNERS, ids=str)
def test_learns_a_few_images_by_heart(name, variant, tells_apart):
    """Object F1 1.0 on what it was trained on: losses, targets and post-processing belong together."""
    torch.manual_seed(0)
    settings = SETTINGS[name](**{**SMALL[name], **variant})
    model = build_model(settings, PostprocessSettings(min_object_area_px=10))
    touching = discs((48, 64), (24, 18, 10), (24, 38, 9))
    assert (touching[1][24, 27:30] == [1, 1, 2]).all()
    images = [touching if tells_apart else discs((48, 64), (24, 20, 13)), discs((48, 64))]
    if name == "unet":  # a step of a detector takes as long as ten of a U-Net
        images += [discs((48, 64), (14, 14, 9), (32, 44, 11))]
        images += [discs((48, 64), (12, 12, 7), (12, 40, 8), (36, 28, 8))]
    batch = batch_of(*images)
    lr, num_steps = LEARNING[name]
    assert f1_by_heart(model, batch, lr=lr, num_steps=num_steps) == 1.0
