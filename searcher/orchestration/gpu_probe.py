"""Whether a trial of a study fits the part of a GPU that it is given, measured before the first one starts."""

from collections.abc import Callable
from pathlib import Path

from data_pipeline.exceptions import DataError
from searcher.exceptions import SearcherError, UserError
from searcher.orchestration.node_probe import ask_nodes
from searcher.orchestration.resources import TrialResources, node_of_each_gpu
from searcher.study.spec import StudySpec
from searcher.training.dataset import DataRequest
from searcher.training.memory_probe import MARGIN, Measured, largest_trial, params_and_use

__all__ = ["check_gpu_share"]


def check_gpu_share(
    spec: StudySpec,
    resources: TrialResources,
    *,
    data: DataRequest,
    fingerprint: str,
    say: Callable[[str], None],
    device: str | None = None,
) -> None:
    """Check that the largest trial of a study's space fits its part of a GPU, on one node with each kind of GPU.

    Nothing is measured where trials do not share a GPU, nor for nodes that are still to come. A node whose GPUs are all
    in use is waited for.

    Args:
        spec: The study.
        resources: What a trial gets.
        data: The data set; a node without its store builds it.
        fingerprint: Of the driver's data.
        say: Told what was measured, and if it takes long.
        device: Device to measure on; None takes CUDA, and measures nothing on a node where torch finds none.

    Raises:
        UserError: It does not fit; the message says which part it would fit. Or it could not be measured.
    """
    if resources.device_share == 1.0:
        return
    nodes = node_of_each_gpu(resources)
    if not nodes:
        say(
            f"resources.gpus={resources.gpus:g}: not measured whether a trial fits, as no node with a GPU is there yet"
        )
        return
    answers = ask_nodes(
        nodes,
        _measure,
        spec,
        data,
        fingerprint,
        device,
        gpus=1.0,
        say=lambda: say(
            "measuring how much of a GPU's memory a trial takes, on a GPU that nothing else uses"
        ),
    )
    problems = []
    for node, answer in answers.items():
        if isinstance(answer, str):
            problems.append(f"node {nodes[node]}: {answer}")
        elif answer is None:
            say(f"node {nodes[node]}: not measured whether a trial fits, as torch finds no GPU there")
        elif answer.use.num_trials == 0 or resources.gpus < answer.use.share:
            problems.append(f"node {nodes[node]}: {_too_little(answer, resources.gpus)}")
        else:
            say(f"node {nodes[node]}: {params_and_use(answer)}; resources.gpus={resources.gpus:g} is enough")
    if problems:
        raise UserError("\n".join(problems))


def _measure(
    spec: StudySpec, data: DataRequest, fingerprint: str, device: str | None, _node: str
) -> Measured | str | None:
    """Measure on the node; return in a text why that is not possible, None where there is no GPU."""
    if device is None:
        import torch  # seconds

        if not torch.cuda.is_available():
            return None
    try:
        return largest_trial(spec, Path(data.open(fingerprint).path), device=device)
    except (SearcherError, DataError) as error:
        return " | ".join(str(error).splitlines())


def _too_little(measured: Measured, gpus: float) -> str:
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
