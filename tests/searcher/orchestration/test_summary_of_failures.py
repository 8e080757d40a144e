"""What is said when trial after trial fails."""

from searcher.orchestration.trials.summary_of_failures import summary_of_failures


def test_one_reason_that_differs_in_numbers_alone_is_said_once_with_the_parameters_that_are_equal():
    failures = [
        ({"optimizer.name": "sgd", "optimizer.lr": 10.0, "model.norm": "none"}, "loss became nan at epoch 1"),
        (
            {"optimizer.name": "sgd", "optimizer.lr": 30.0, "model.norm": "none"},
            "loss became inf at epoch 12",
        ),
        ({"optimizer.name": "sgd", "optimizer.lr": 70.5}, "loss became nan at epoch 3"),
    ]
    assert (
        summary_of_failures(failures)
        == "each time: loss became nan at epoch 1; they share optimizer.name=sgd"
    )


def test_reasons_of_several_kinds_are_each_said_in_their_order():
    failures = [({"lr": 1}, "second-hand cat, step 7"), ({"lr": 2}, "dog 3"), ({"lr": 3}, "dog 4")]
    assert summary_of_failures(failures) == (
        "for 2 reasons: second-hand cat, step 7 | dog 3; they share no parameter"
    )
