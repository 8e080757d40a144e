"""Classes: what an object is. Targets, loss, an object's class, and that networks learn them."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from searcher.models.class_branch import CLASS_BRANCH, class_loss, class_targets, mean_probabilities
from searcher.models.instances import instances_from_detections
from searcher.models.registry import build_model
from searcher.models.settings import SETTINGS, PostprocessSettings
from searcher.models.tta import dihedral_average
from searcher.models.values import Detections, Prediction, TensorBatch
from searcher.testing.images import batch_of, discs
from tests.models.test_conformance import LEARNING, SMALL

LABELS = torch.tensor([[[0, 3, 3], [-1, 1, 7]]], dtype=torch.int32)
TABLE = torch.tensor([[0, 2, 0, 1, 0, 0, 0, 0]])
"""Label 1 is of class 2, label 3 of class 1, nobody knows label 7."""


def test_targets_are_the_classes_of_objects_and_nothing_of_background_unannotated_or_unknown():
    assert class_targets(LABELS, TABLE).tolist() == [[[-1, 0, 0], [-1, 1, -1]]]
    assert class_targets(LABELS, None).tolist() == [[[-1, -1, -1], [-1, -1, -1]]]


def test_the_loss_is_the_weighted_mean_over_what_is_known():
    """Pixels of classes 1, 1, 2 with P = 1/2, 1/4, 1/8 of the true class, weights 1 and 4: in bits 1, 2, 3."""
    probability = torch.tensor([[1 / 2, 1 / 2], [1 / 4, 3 / 4], [7 / 8, 1 / 8], [1.0, 1e-9]])
    targets = torch.tensor([0, 0, 1, -1])
    bits = np.log(2)
    assert float(class_loss(probability.log(), targets)) == pytest.approx((1 + 2 + 3) / 3 * bits, rel=1e-6)
    weighted = class_loss(probability.log(), targets, torch.tensor([1.0, 4.0]))
    assert float(weighted) == pytest.approx((1 + 2 + 4 * 3) / 6 * bits, rel=1e-6)
    assert float(class_loss(probability.log(), torch.full((4,), -1))) == 0


def test_an_object_s_class_is_the_mean_over_its_pixels():
    labels = np.array([[1, 1, 0], [2, 2, 2]], np.int32)
    first = np.array([[0.9, 0.3, 0.0], [0.1, 0.4, 0.4]], np.float32)
    found = mean_probabilities(labels, np.stack([first, 1 - first]), 2)
    np.testing.assert_allclose(found, [[0.6, 0.4], [0.3, 0.7]], rtol=1e-6)
    assert Prediction(labels, np.ones(2, np.float32), found).classes.tolist() == [1, 2]


def test_detections_of_all_classes_compete_by_score_and_keep_their_own_class():
    boxes = np.array([[0, 0, 6, 8], [0, 0, 6, 8], [6, 0, 12, 8]], np.float32)
    scores = np.array([0.6, 0.9, 0.7], np.float32)
    of_classes = np.array([[1, 0], [0, 1], [0.8, 0.2]], np.float32)
    found = Detections((8, 12), boxes, scores, np.ones((3, 4, 4), np.float32), of_classes)
    kept = instances_from_detections(found, PostprocessSettings())
    assert kept.scores.tolist() == pytest.approx([0.9, 0.7])
    assert kept.classes.tolist() == [2, 1], "the worse of the two on one place is gone"


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        ({"num_classes": 2, "class_names": ("a",)}, "class_names must have a value for each"),
        ({"num_classes": 2, "class_weights": (1.0, 0.0)}, "class_weights must be above 0"),
        ({"num_classes": 2, "class_names": ("a", "a")}, "class_names must differ"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(wrong, rule):
    with pytest.raises(ValidationError, match=rule):
        SETTINGS["unet"](**wrong)


@pytest.mark.parametrize("name", SETTINGS.built_in_names())
def test_a_network_without_classes_is_as_it_was_and_gives_all_it_has_to_one_with(name):
    plain, learned = SETTINGS[name](**SMALL[name]), SETTINGS[name](**SMALL[name], num_classes=2)
    assert not {"num_classes", "class_names", "class_weights"} & plain.model_dump().keys()
    states = []
    for settings in (plain, learned):
        torch.manual_seed(0)
        states.append(build_model(settings, PostprocessSettings()).state_dict())
    before, after = states
    assert all(torch.equal(value, after[key]) for key, value in before.items()), (
        "the same seed, the same weights"
    )
    assert {key for key in after if key not in before} == {
        key for key in after if key.startswith(CLASS_BRANCH)
    }
    assert build_model(learned, PostprocessSettings()).transferable(before, learned) >= {
        key for key, _ in build_model(plain, PostprocessSettings()).named_parameters()
    }


def kinds_of_discs(num: int = 4) -> TensorBatch:
    """Dark discs are of class 1, bright ones of class 2; one of each image is of unknown class."""
    samples = []
    for n in range(num):
        image, labels = discs((48, 64), (12, 12 + 2 * n, 8), (34, 18, 9), (20, 46, 9))
        image[labels == 2] = np.clip(image[labels == 2].astype(int) - 60, 0, 255)
        image[labels == 3] = np.clip(image[labels == 3].astype(int) - 60 if n % 2 else 240, 0, 255)
        image[labels == 1] = np.clip(240 if n % 2 else image[labels == 1], 0, 255)
        samples.append((image, labels))
    table = torch.tensor([[0, 2, 0, 1] if n % 2 else [0, 1, 1, 2] for n in range(num)])
    return batch_of(*samples)._replace(classes=table)


@pytest.mark.parametrize("name", SETTINGS.built_in_names())
def test_learns_by_heart_which_class_each_object_is_of(name):
    lr, num_steps = LEARNING[name]
    torch.manual_seed(0)
    settings = SETTINGS[name](**SMALL[name], num_classes=2, class_weights=(1.0, 1.5))
    model = build_model(settings, PostprocessSettings(min_object_area_px=10))
    batch = kinds_of_discs(4 if name == "unet" else 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for _ in range(num_steps):
        optimizer.zero_grad()
        torch.stack(list(model.training_step(batch).values())).sum().backward()
        optimizer.step()
    model.eval()
    assert batch.classes is not None
    num_right, num_known = 0, 0
    for labels, table, found in zip(
        batch.labels.numpy(), batch.classes, model.predict(batch.images), strict=True
    ):
        for label in np.flatnonzero(table.numpy()):
            [there] = np.unique(found.labels[labels == label][found.labels[labels == label] > 0])[:1]
            num_known += 1
            num_right += int(found.classes[there - 1]) == int(table[label])
    assert num_right == num_known


def test_8_views_average_the_maps_of_classes_too():
    """Whichever way up the image lies, the mean is the same, and still adds up to 1."""
    torch.manual_seed(0)
    model = build_model(
        SETTINGS["unet"](base_channels=2, depth=1, num_classes=3), PostprocessSettings()
    ).eval()
    images = torch.randint(0, 256, (1, 24, 24, 3), dtype=torch.uint8)
    mean = dihedral_average(model, images)
    turned = dihedral_average(model, torch.rot90(images, 1, (1, 2)).contiguous())
    torch.testing.assert_close(turned, torch.rot90(mean, 1, (2, 3)), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(mean[:, -3:].sum(dim=1), torch.ones(1, 24, 24))
