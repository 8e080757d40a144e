"""Whether a trial of a study fits the part of a GPU that it is given, measured before the first one starts."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ray

from searcher.data_pipeline.exceptions import DataError
from searcher.exceptions import SearcherError, UserError
from searcher.orchestration.cluster.node_tasks import GONE, SAY_AFTER_S, answer_of, on_node
from searcher.orchestration.cluster.resources import TrialResources, node_of_each_gpu
from searcher.plugins import load_plugins, plugin_sources
from searcher.study.spec import StudySpec
from searcher.training.dataset import DataRequest
from searcher.training.memory_probe import MARGIN, MeasuredTrial, largest_trial, params_and_use

__all__ = ["check_gpu_share"]

_FREE_WITHIN_S = 300.0
"""Seconds to wait for a free GPU: a short job ends in that time, but another study may hold all GPUs for days."""
_BUSY = object()
"""In place of an answer, where no GPU was free."""


def check_gpu_share(
    spec: StudySpec,
    resources: TrialResources,
    *,
    data: DataRequest,
    fingerprint: str,
    say: Callable[[str], None],
    device: str | None = None,
) -> None:
    """Check that a study's largest trial fits in its share of a GPU, on one node for each kind of GPU.

    Nothing is measured if trials do not share a GPU, nor on nodes that start later. If all GPUs of a node are in use,
    the check waits some minutes and then skips the node. In any case, each trial is limited to its share.

    Args:
        spec: The study.
        resources: Resources of one trial.
        data: The data set; a node without its store builds it.
        fingerprint: Fingerprint of the driver's data.
        say: Receives the result, and a line if the measurement takes long.
        device: Device to measure on; None for CUDA. Nodes on which torch finds no GPU are skipped.

    Raises:
        UserError: The trial does not fit; the message says which share would be enough. Or the measurement failed.
    """
    if resources.device_share == 1.0:
        return
    nodes = node_of_each_gpu(resources)
    if not nodes:
        say(
            f"resources.gpus={resources.gpus:g}: not measured whether a trial fits, as no node with a GPU is there yet"
        )
        return
    answers = _on_free_gpus(nodes, spec, data, fingerprint, device, plugin_sources(), say=say)
    problems = []
    for node, answer in answers.items():
        if answer is _BUSY:
            say(
                f"node {nodes[node]}: not measured whether a trial fits resources.gpus={resources.gpus:g}, as no GPU "
                f"there was free within {_FREE_WITHIN_S / 60:.0f} minutes; going on"
            )
        elif isinstance(answer, str):
            problems.append(f"node {nodes[node]}: {answer}")
        elif answer is None:
            say(f"node {nodes[node]}: not measured whether a trial fits, as torch finds no GPU there")
        elif answer.use.num_trials == 0 or resources.gpus < answer.use.share:
            problems.append(f"node {nodes[node]}: {_too_little(answer, resources.gpus)}")
        else:
            say(f"node {nodes[node]}: {params_and_use(answer)}; resources.gpus={resources.gpus:g} is enough")
    if problems:
        raise UserError(*problems)


def _on_free_gpus(nodes: Mapping[str, str], *args: object, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure on every node at the same time, on a GPU that nothing else uses, where there is one in time.

    Args:
        nodes: Ray's identifier of each, and a name for people.
        args: Of `_measure`.
        say: Told what is waited for, if it takes long.

    Returns:
        The answers by node, `_BUSY` where no GPU was free; nodes that have left the cluster are left out.
    """
    # No CPU: it must not wait for a trial of somebody else's to end.
    remote = ray.remote(num_cpus=0, num_gpus=1, max_retries=0)(_steps)
    asked = {node: remote.options(scheduling_strategy=on_node(node)).remote(*args) for node in nodes}
    waiting = _still_waiting([*asked.values()], SAY_AFTER_S)
    if waiting:
        say(
            f"waiting up to {_FREE_WITHIN_S / 60:.0f} minutes for a GPU that nothing else uses, to measure how much of "
            "its memory a trial takes"
        )
        waiting = _still_waiting(waiting, _FREE_WITHIN_S)
    for steps in waiting:
        ray.cancel(steps)  # it would take a GPU from the trials later
    answers = {node: _BUSY if steps in waiting else answer_of(next(steps)) for node, steps in asked.items()}
    begun = {node: asked[node] for node, answer in answers.items() if answer is None}
    if begun and _still_waiting([*begun.values()], SAY_AFTER_S):
        say("measuring how much of a GPU's memory a trial takes")
    answers |= {node: answer_of(next(steps)) for node, steps in begun.items()}
    return {node: answer for node, answer in answers.items() if answer is not GONE}


def _still_waiting(tasks: list[Any], within_s: float) -> list[Any]:
    """Return which of these generators have not come to their next step in time."""
    waiting: list[Any] = ray.wait(tasks, num_returns=len(tasks), timeout=within_s)[1]
    return waiting


def _steps(
    spec: StudySpec, data: DataRequest, fingerprint: str, device: str | None, plugins: Sequence[str]
) -> Iterator[MeasuredTrial | str | None]:
    """Say with None that the GPU is there, then measure."""
    yield None
    yield _measure(spec, data, fingerprint, device, plugins)


def _measure(
    spec: StudySpec, data: DataRequest, fingerprint: str, device: str | None, plugins: Sequence[str]
) -> MeasuredTrial | str | None:
    """Measure on the node; return in a text why that is not possible, None where there is no GPU."""
    if device is None:
        import torch  # seconds

        if not torch.cuda.is_available():
            return None
    try:
        load_plugins(plugins, folder=Path("/"))
        return largest_trial(spec, Path(data.open(fingerprint).path), device=device)
    except (SearcherError, DataError) as error:
        return " | ".join(str(error).splitlines())


def _too_little(measured: MeasuredTrial, gpus: float) -> str:
    use = measured.use
    if not use.fits:
        return (
            f"resources.gpus: the largest trial must fit a GPU, got {params_and_use(measured)}; "
            "lower train.batch_size, augment.crop_px or the model's size in the study's space"
        )
    return (
        f"resources.gpus: must be at least {use.share:.4f}, so that the largest trial fits with a margin of "
        f"{MARGIN:.0%}, got {gpus:g}: {params_and_use(measured)}; use --set resources.gpus={use.gpus:g}"
    )
