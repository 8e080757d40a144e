"""Which images a report shows."""

from searcher.report.model import choose_examples


def images(*pairs: tuple[float, float]) -> list[dict[str, object]]:
    return [
        {"id": f"i{n}", "object_dice": dice, "object_hausdorff": distance}
        for n, (dice, distance) in enumerate(pairs)
    ]


def test_best_average_worst_and_the_largest_distance():
    """The mean of the Dice is .6: the third is the nearest."""
    found = choose_examples(images((0.9, 10.0), (0.8, 90.0), (0.5, 30.0), (0.2, 40.0)))
    assert found == {"i0": "best", "i2": "average", "i3": "worst", "i1": "largest Hausdorff distance"}


def test_one_image_has_all_reasons_and_of_equals_the_first_is_taken():
    assert choose_examples(images((0.5, 1.0))) == {"i0": "best, average, worst, largest Hausdorff distance"}
    assert list(choose_examples(images((0.5, 1.0), (0.5, 1.0)))) == ["i0"]
