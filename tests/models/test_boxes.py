"""Boxes, resized label maps and mask targets, by hand and against torchvision."""

import numpy as np
import pytest
import torch
from torchvision.ops import roi_align

from searcher.models.boxes import find_instances, mask_targets, resize_labels


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
    labels = torch.arange(25, dtype=torch.int32).reshape(1, 5, 5)
    # Centres 0.5, 1.5 and 2.5 of three pixels lie at 0.83, 2.5 and 4.17 of five: in pixels 0, 2 and 4.
    assert resize_labels(labels, 3, 3)[0].tolist() == [[0, 2, 4], [10, 12, 14], [20, 22, 24]]
    assert resize_labels(labels, 10, 5)[0, :, 0].tolist() == [0, 0, 5, 5, 10, 10, 15, 15, 20, 20]
    assert resize_labels(labels, 5, 5) is labels


def test_centres_on_an_edge_are_of_the_pixels_on_both_sides_in_turn():
    labels = torch.arange(16, dtype=torch.int32).reshape(1, 4, 4)
    # Centres of two pixels lie at 1 and 3 of four, between pixels 0 and 1, 2 and 3. Even rows take the left one, even
    # columns the upper one.
    assert resize_labels(labels, 2, 2)[0].tolist() == [[0, 6], [9, 15]]


@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("is_transposed", [False, True])
def test_an_instance_stays_where_it_is_when_label_maps_shrink(factor, is_transposed):
    columns = torch.arange(16)
    for edge in range(1, 16):
        labels = (columns >= edge).int().expand(16, 16)
        labels = (labels.T if is_transposed else labels).contiguous()[None]
        resized = resize_labels(labels, 16 // factor, 16 // factor)
        # Where the edge is, on average over its length, from the number of pixels behind it.
        place = 16 - resized.float().mean().item() * 16
        if factor == 2:
            assert place == edge
        assert abs(place - edge) <= factor / 2


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
