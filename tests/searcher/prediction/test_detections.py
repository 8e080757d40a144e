"""Detections of overlapping tiles are decided together; what a tile's edge cuts off gives way."""

import numpy as np
import pytest
import torch

from searcher.data_pipeline.images import ArrayRaster
from searcher.data_pipeline.tiling import Tile
from searcher.inference.predictor import Predictor
from searcher.models.base import DetectionModel
from searcher.models.instances import instances_from_detections
from searcher.models.mask_rcnn import MaskRCNN
from searcher.models.settings import PostprocessSettings
from searcher.models.values import Detections
from searcher.prediction.detections import cut_detected, see_detections

CPU = torch.device("cpu")


class FindsGreys(DetectionModel):
    """Finds every grey level but black as one object: its box is full, its score is level / 255.

    Of two classes, the first has the score as its probability.
    """

    postprocess_keys = ()

    def __init__(self, **postprocess) -> None:
        super().__init__()
        self.postprocess = PostprocessSettings(**postprocess)

    def parts(self):
        raise NotImplementedError

    def training_step(self, batch):
        raise NotImplementedError

    def detect(self, images):
        [image] = images[..., 0].numpy()
        boxes, scores = [], []
        for level in np.unique(image[image > 0]):
            rows, columns = np.nonzero(image == level)
            boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            scores.append(level / 255)
        num = len(boxes)
        return [
            Detections(
                image.shape,
                np.array(boxes, np.float32).reshape(num, 4),
                np.array(scores, np.float32),
                np.ones((num, 4, 4), np.float32),
                np.array([[score, 1 - score] for score in scores], np.float32).reshape(num, 2),
            )
        ]

    def instances_from_detections(self, detections):
        return instances_from_detections(detections, self.postprocess)


def found_in(image, model, tmp_path, *, tile_px, overlap_px):
    predictor = Predictor([model], device=CPU)
    with (
        see_detections(
            predictor, ArrayRaster(image), tmp_path, tile_px=tile_px, overlap_px=overlap_px
        ) as detected,
        cut_detected(detected, predictor.postprocess, tmp_path) as labels,
    ):
        if isinstance(model, FindsGreys):  # every object keeps its own class
            np.testing.assert_array_equal(labels.class_probabilities[:, 0], labels.scores)
        return labels.read(Tile(0, 0, *image.shape[:2])), labels.scores


def grey(shape, *boxes):
    image = np.zeros((*shape, 3), np.uint8)
    for (top, left, bottom, right), level in boxes:
        image[top:bottom, left:right] = level
    return image


def test_one_tile_is_the_whole_image(tmp_path):
    torch.manual_seed(0)
    model = MaskRCNN(
        backbone="resnet18", fpn_channels=16, box_layer=16, mask_layer=16, box_score_threshold=0.0,
        detections_per_image=30, postprocess=PostprocessSettings(min_score=0.3, threshold=0.45),
    )  # fmt: skip
    image = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    predictor = Predictor([model], device=CPU)
    whole = predictor.cut(predictor.see(image))
    labels, scores = found_in(image, model, tmp_path, tile_px=120, overlap_px=60)
    assert len(whole.scores) > 3
    np.testing.assert_array_equal(labels, whole.labels)
    np.testing.assert_array_equal(scores, whole.scores)


def test_objects_across_tiles_are_one_each(tmp_path):
    boxes = [((5, 5, 15, 25), 200), ((30, 20, 50, 44), 180), ((60, 70, 75, 95), 220), ((8, 36, 20, 60), 150)]
    image = grey((80, 100), *boxes)
    labels, scores = found_in(image, FindsGreys(), tmp_path, tile_px=60, overlap_px=30)
    assert len(scores) == 4
    for label, score in enumerate(scores, start=1):
        np.testing.assert_array_equal(labels == label, image[..., 0] == round(score * 255))


def test_a_piece_that_an_edge_cuts_off_gives_way_to_the_whole_whatever_its_score(tmp_path):
    """By hand: tiles at columns 0 and 20 of 40 each. The left sees columns 25 to 39 of the object, sure of itself."""

    class SurerOfPieces(FindsGreys):
        def detect(self, images):
            [found] = super().detect(images)
            is_cut = (found.boxes[:, 2] == 40) & (found.boxes[:, 0] > 0)
            return [found._replace(scores=np.where(is_cut, 0.99, found.scores).astype(np.float32))]

    image = grey((20, 60), ((4, 25, 16, 55), 200))
    labels, scores = found_in(image, SurerOfPieces(), tmp_path, tile_px=40, overlap_px=20)
    np.testing.assert_array_equal(labels > 0, image[..., 0] > 0)
    np.testing.assert_allclose(scores, [200 / 255])


def test_what_no_tile_has_whole_is_not_lost(tmp_path):
    image = grey((20, 100), ((4, 5, 16, 95), 200))
    labels, scores = found_in(image, FindsGreys(max_overlap=0.9), tmp_path, tile_px=40, overlap_px=20)
    np.testing.assert_array_equal(labels > 0, image[..., 0] > 0)
    assert len(scores) > 1, "it comes in pieces, as docs/predict.md says"


@pytest.mark.parametrize("min_score", [0.5, 0.9])
def test_low_scores_go(tmp_path, min_score):
    image = grey((40, 90), ((4, 5, 16, 25), 200), ((4, 60, 16, 80), 100))
    _, scores = found_in(image, FindsGreys(min_score=min_score), tmp_path, tile_px=50, overlap_px=25)
    assert len(scores) == (1 if min_score == 0.5 else 0)
