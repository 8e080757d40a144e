"""How much memory the largest trials of a study take."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from searcher.exceptions import UserError

if TYPE_CHECKING:
    from searcher.data_pipeline.datasets.view import DataView
    from searcher.study.spec import StudySpec
    from searcher.training.memory_probe import MeasuredTrial

__all__ = ["check_probed", "measure_memory"]


def check_probed(spec: "StudySpec") -> None:
    """Raise an error if a study's search space is derived from another study's trials.

    Raises:
        UserError: The search space is derived, so that it is not known yet.
    """
    if spec.is_open:
        assert spec.parent is not None
        raise UserError(
            f"{spec.source}: must say itself what is searched, got what follows from {spec.parent.study}; "
            "probe that one, or write this one down with searcher refine"
        )


def measure_memory(
    spec: "StudySpec",
    data: str | None,
    view: "DataView",
    bar: Callable[[str], AbstractContextManager[Callable[[int, int], None]]],
) -> "tuple[MeasuredTrial, list[MeasuredTrial]]":
    """Return the memory use of the largest trial of a study, and all measurements that were made to find it.

    Args:
        spec: The study, see `check_probed`.
        data: The data set's folder, or its URI in an object store; None for synthetic glands.
        view: How to read the data set.
        bar: Shows the progress of each step.

    Raises:
        DataError: The data set cannot be used.
        SearcherError: The measurement failed.
    """
    from searcher.storage.mirror import cache_dir
    from searcher.training.class_data import pinned
    from searcher.training.dataset import DataRequest
    from searcher.training.memory_probe import largest_trial

    request = DataRequest(data, str(cache_dir()), spec.trial_config({}).data, view)
    with bar("preparing images") as advance:
        store = request.prepare(advance)
    spec = pinned(spec, store)
    measured: list[MeasuredTrial] = []
    with bar("measuring") as advance:

        def heard(each: "MeasuredTrial") -> None:
            measured.append(each)
            advance(len(measured), len(measured) + 1)

        return largest_trial(spec, store.path, heard=heard), measured
