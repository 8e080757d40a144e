"""The official metrics written from their definitions with plain loops, slow and obvious."""

import math

import numpy as np
from scipy.spatial.distance import directed_hausdorff


def objects(labels):
    return {int(v): np.argwhere(labels == v) for v in np.unique(labels) if v != 0}


def partner(mask, other):
    """The label of `other` with the most pixels inside the mask, the lowest of equals; None without any."""
    best, most = None, 0
    for value in np.unique(other):
        shared = np.count_nonzero(mask & (other == value))
        if value != 0 and shared > most:
            best, most = int(value), shared
    return best


def hausdorff(x, y):
    return max(directed_hausdorff(x, y)[0], directed_hausdorff(y, x)[0])


def object_terms(labels, other):
    """For each object: area, Dice term, Hausdorff term."""
    terms = []
    others = objects(other)
    for value, pixels in objects(labels).items():
        found = partner(labels == value, other)
        if found is not None:
            shared = np.count_nonzero((labels == value) & (other == found))
            dice = 2 * shared / (len(pixels) + len(others[found]))
            distance = hausdorff(pixels, others[found])
        else:
            dice = 0.0
            distance = min((hausdorff(pixels, o) for o in others.values()), default=math.hypot(*labels.shape))
        terms.append((len(pixels), dice, distance))
    return terms


def true_positives(truth, prediction):
    won = 0
    for value in objects(prediction):
        gland = partner(prediction == value, truth)
        if gland is not None:
            covered = np.count_nonzero((prediction == value) & (truth == gland))
            won += covered / np.count_nonzero(truth == gland) > 0.5
    return won


def weighted(terms, column):
    total = sum(term[0] for term in terms)
    return sum(term[0] * term[column] for term in terms) / total


def image_terms(truth, prediction):
    """Of one image: true positives, false ones, missed ones; both sides' terms; shared and all foreground."""
    tp = true_positives(truth, prediction)
    return (
        *(tp, len(objects(prediction)) - tp, len(objects(truth)) - tp),
        *(object_terms(truth, prediction), object_terms(prediction, truth)),
        np.count_nonzero((truth > 0) & (prediction > 0)),
        np.count_nonzero(truth > 0) + np.count_nonzero(prediction > 0),
    )


def pooled(pairs):
    """Metrics of (truth, prediction) pairs taken as one set."""
    return pooled_terms([image_terms(truth, prediction) for truth, prediction in pairs])


def pooled_terms(images):
    """Metrics of images, by their `image_terms`, taken as one set."""
    tp, fp, fn = (sum(image[column] for image in images) for column in range(3))
    truth_terms, prediction_terms = ([term for image in images for term in image[side]] for side in (3, 4))
    shared, foreground = (sum(image[column] for image in images) for column in (5, 6))
    if foreground == 0:
        return {"f1": 1.0, "object_dice": 1.0, "object_hausdorff": 0.0, "pixel_dice": 1.0}
    if not truth_terms or not prediction_terms:
        terms = truth_terms or prediction_terms
        return {"f1": 0.0, "object_dice": 0.0, "object_hausdorff": weighted(terms, 2), "pixel_dice": 0.0}
    return {
        "f1": 2 * tp / (2 * tp + fp + fn),
        "object_dice": (weighted(truth_terms, 1) + weighted(prediction_terms, 1)) / 2,
        "object_hausdorff": (weighted(truth_terms, 2) + weighted(prediction_terms, 2)) / 2,
        "pixel_dice": 2 * shared / foreground,
    }
