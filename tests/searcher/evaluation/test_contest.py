"""The contest's table and its ranking rule, by hand calculations."""

from dataclasses import replace

from searcher.evaluation.glas.contest import ENTRIES, POSTER, SINCE, ContestEntry, ranked


def entry(method, f1, dice, hausdorff):
    return ContestEntry(method, f1, dice, hausdorff, "ours")


def test_equal_figures_share_the_better_rank():
    """F1 on test A: .9, .8, .8, .7 are 1, 2, 2, 4; all else is equal, rank 1 for everybody."""
    rows = [entry(str(f1), (f1, 0.5), (0.5, 0.5), (50, 50)) for f1 in (0.8, 0.7, 0.9, 0.8)]
    found = ranked(rows)
    assert [row.ranks[0] for row in found] == [1, 2, 2, 4]
    assert [row.rank_sum for row in found] == [1 + 5, 2 + 5, 2 + 5, 4 + 5]


def test_a_short_distance_and_a_high_dice_are_good():
    [first, second] = ranked(
        [entry("a", (0.9, 0.8), (0.9, 0.8), (50, 90)), entry("b", (0.8, 0.9), (0.8, 0.9), (60, 80))]
    )
    assert (first.ranks, second.ranks) == ((1, 2, 1, 2, 1, 2), (2, 1, 2, 1, 2, 1))


def test_the_contests_own_ranking():
    """By hand from the table. Object Dice on test B has a tie: .800, .786, .786, .783."""
    found = ranked(ENTRIES)
    assert [(row.entry.method, row.rank_sum) for row in found] == [
        ("CUMedVision2", 1 + 3 + 1 + 5 + 1 + 6),
        ("ExB1", 4 + 4 + 4 + 2 + 6 + 1),
        ("ExB3", 2 + 2 + 2 + 6 + 5 + 5),
        ("Freiburg2", 5 + 5 + 5 + 2 + 3 + 3),
        ("CUMedVision1", 6 + 1 + 7 + 1 + 7 + 4),
        ("ExB2", 3 + 6 + 3 + 7 + 2 + 8),
        ("Freiburg1", 7 + 7 + 6 + 4 + 4 + 2),
        ("CVML", 9 + 8 + 10 + 8 + 10 + 7),
        ("LIB", 8 + 10 + 8 + 9 + 9 + 9),
        ("vision4GlaS", 10 + 9 + 9 + 10 + 8 + 10),
    ]


def test_without_test_b_only_test_a_counts():
    ours = entry("ours", (0.898, None), (0.897, None), (50.5, None))
    found = {row.entry.method: row for row in ranked([*ENTRIES, ours])}
    assert found["ours"].ranks == (2, None, 1, None, 2, None)
    assert found["ours"].rank_sum == 5
    assert found["CUMedVision2"].ranks == (1, None, 1, None, 1, None)
    assert found["ExB3"].ranks == (3, None, 3, None, 6, None)


def test_figures_are_compared_as_they_are_printed():
    """ExB1 has an F1 of .891, whatever came after it."""
    longer = replace(ENTRIES[1], method="ours", f1=(0.89149, 0.7026))
    ours, exb1 = (row for row in ranked([longer, ENTRIES[1]]))
    assert ours.ranks == exb1.ranks == (1,) * 6


def test_a_set_in_which_nothing_was_measured_for_all_is_not_ranked():
    found = ranked(
        [entry("a", (0.9, None), (0.9, None), (9, None)), entry("b", (None, 0.9), (None, 0.9), (None, 9))]
    )
    assert [(row.ranks, row.rank_sum) for row in found] == [((None,) * 6, None)] * 2


def test_every_row_is_complete():
    assert (len(ENTRIES), len(POSTER), len(SINCE)) == (10, 2, 4)
    for row in (*ENTRIES, *POSTER, *SINCE):
        fractions, distances = row.values[:4], row.values[4:]
        assert all(0 < value < 1 for value in fractions), row
        assert all(30 < value < 220 for value in distances), row
