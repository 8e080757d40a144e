"""Boxes, resized label maps and mask targets, by hand and against torchvision."""

import numpy as np
import pytest
import torch
from torchvision.ops import roi_align

from models.boxes import find_instances, mask_targets, resize_labels


def label_map(rows: list[str]) -> torch.Tensor:
    return torch.tensor([[int(value) for value in row] for row in rows], dtype=torch.int32)


def test_a_box_reaches_from_the_first_pixels_edge_to_the_last_ones():
    labels = label_map(["00000", "07700", "07700", "00003"])
    found = find_instances(labels)
    assert found.labels.tolist() == [3, 7]
    assert found.boxes.tolist() == [[4, 3, 5, 4], [1, 1, 3, 3]]


def test_an_instance_in_two_pieces_is_one_box():
    assert find_instances(label_map(["100", "000", "001"])).boxes.tolist() == [[0, 0, 3, 3]]


def test_large_labels_with_gaps_take_no_memory_of_their_size():
    labels = torch.zeros(4, 4, dtype=torch.int32)
    labels[0, 0], labels[3, 3] = 2_000_000_000, 5
    assert find_instances(labels).labels.tolist() == [5, 2_000_000_000]


def test_no_instance_is_legal():
    found = find_instances(torch.zeros(3, 4, dtype=torch.int32))
    assert found.labels.shape == (0,)
    assert found.boxes.shape == (0, 4)


def test_slivers_are_left_out_whichever_way_they_lie():
    labels = label_map(["11110", "00000", "02033", "02033"])
    assert find_instances(labels, min_side_px=2).labels.tolist() == [3]
    assert find_instances(labels, min_side_px=1).labels.tolist() == [1, 2, 3]


def test_a_resized_label_map_has_the_labels_at_its_pixels_centres():
    labels = torch.arange(16, dtype=torch.int32).reshape(1, 4, 4)
    # Centres 0.5 and 1.5 of two pixels lie at 1 and 3 of four: in the second and the fourth pixel.
    assert resize_labels(labels, 2, 2)[0].tolist() == [[5, 7], [13, 15]]
    assert resize_labels(labels, 8, 4)[0, :, 0].tolist() == [0, 0, 4, 4, 8, 8, 12, 12]
    assert resize_labels(labels, 4, 4) is labels


def test_a_mask_target_by_hand():
    labels = label_map(["0110", "0110"])
    # A grid of two cells over the whole map: each is half of the instance, sampled between the pixels' centres at
    # columns 0.5 and 1.5, 2.5 and 3.5; in the upper and the lower half alike.
    [target] = mask_targets(labels, torch.tensor([1]), torch.tensor([[0.0, 0.0, 4.0, 2.0]]), size=2)
    assert target.tolist() == [[0.5, 0.5], [0.5, 0.5]]
    [inside] = mask_targets(labels, torch.tensor([1]), torch.tensor([[1.0, 0.0, 3.0, 2.0]]), size=1)
    # Points at columns 1.5 and 2.5, the centres of its own two pixels.
    assert inside.item() == 1.0


@pytest.mark.parametrize("seed", range(4))
def test_mask_targets_are_those_of_torchvision_for_binary_masks(seed):
    random = np.random.default_rng(seed)
    labels = torch.from_numpy(random.integers(0, 4, (23, 31), dtype=np.int32))
    corners = np.sort(random.uniform(0, 1, (12, 2, 2)), axis=1) * [31, 23]
    boxes = torch.from_numpy(corners.reshape(12, 4)).float()
    ids = torch.from_numpy(random.integers(1, 4, 12, dtype=np.int32))
    found = mask_targets(labels, ids, boxes, size=7)
    for target, label, box in zip(found, ids, boxes, strict=True):
        mask = (labels == label).float()[None, None]
        expected = roi_align(mask, [box[None]], (7, 7), sampling_ratio=2, aligned=True)[0, 0]
        torch.testing.assert_close(target, expected, atol=1e-5, rtol=0)


def test_no_box_no_target():
    labels = torch.ones(3, 3, dtype=torch.int32)
    targets = mask_targets(labels, torch.zeros(0, dtype=torch.int32), torch.zeros(0, 4), size=28)
    assert targets.shape == (0, 28, 28)
