"""A trial's random numbers are its own."""

import random

import numpy as np
import pytest
import torch

from searcher.training.randomness import RandomState

CPU = torch.device("cpu")


def draw() -> tuple[float, float, float, float]:
    # random.gauss keeps every second value in its state
    return torch.rand(1).item(), np.random.rand(), random.random(), random.gauss(0.0, 1.0)  # noqa: NPY002


def seed_globally(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)


def draw_in(state: RandomState) -> tuple[float, float, float, float]:
    with state.active():
        return draw()


def test_the_same_seed_draws_the_same_and_another_seed_does_not():
    assert draw_in(RandomState(7, CPU)) == draw_in(RandomState(7, CPU))
    for a, b in zip(draw_in(RandomState(7, CPU)), draw_in(RandomState(8, CPU)), strict=True):
        assert a != b


@pytest.mark.parametrize("seed", [0, 2**32, 2**64 + 1])
def test_any_seed_will_do(seed):
    draw_in(RandomState(seed, CPU))


def test_it_continues_from_block_to_block_whatever_is_drawn_between():
    one, two = RandomState(7, CPU), RandomState(7, CPU)
    with one.active():
        whole = [draw(), draw()]
    parts = [draw_in(two)]
    draw()
    torch.manual_seed(123)
    parts.append(draw_in(two))
    assert parts == whole


def test_the_outside_is_left_as_it_was():
    seed_globally(3)
    expected = draw()
    seed_globally(3)
    draw_in(RandomState(7, CPU))
    assert draw() == expected


def test_the_outside_is_left_as_it_was_when_the_trial_fails():
    def fail() -> None:
        with RandomState(8, CPU).active():
            draw()
            raise ZeroDivisionError

    seed_globally(3)
    expected = draw()
    seed_globally(3)
    with pytest.raises(ZeroDivisionError):
        fail()
    assert draw() == expected


def test_a_saved_state_goes_on_where_it_was(tmp_path):
    first, second = RandomState(7, CPU), RandomState(99, CPU)
    draw_in(first)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert [draw_in(second), draw_in(second)] == [draw_in(first), draw_in(first)]
