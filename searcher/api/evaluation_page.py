"""What the page of an evaluation shows, gathered while it measures and afterwards."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from searcher.api.writing import check_writable, write_text
from searcher.extras import need

if TYPE_CHECKING:
    from searcher.api.networks import FoundNetworks
    from searcher.bundle.manifest import MemberFacts
    from searcher.data_pipeline.datasets import SampleSource
    from searcher.data_pipeline.store import Store
    from searcher.evaluation.summary import Summary
    from searcher.inference.measuring import Seen
    from searcher.inference.predictor import Predictor
    from searcher.report.model import ReportMember, SplitReport

__all__ = ["check_report", "is_glas_release", "split_report", "write_report"]

_VERSIONS = ("gland-searcher", "torch", "torchvision", "numpy", "opencv-python-headless")


def check_report(path: Path | None) -> None:
    """Raise an error if a report page cannot be drawn and written, before the work for it begins.

    Args:
        path: File for the page; None if there is none to write.

    Raises:
        UserError: The file cannot be written, or the extra `plots` is not installed.
    """
    check_writable("--report", path)
    if path is not None:
        need("plots", f"--report {path}")


def split_report(
    name: str,
    summary: "Summary",
    predictor: "Predictor",
    store: "Store",
    indices: Sequence[int],
    seen: "Sequence[Seen]",
) -> "SplitReport":
    """Return what the report page shows of one split: its metrics, and a few pictures of images.

    Args:
        name: Name of the split.
        summary: The metrics of the split.
        predictor: The networks; they cut the instances of the pictured images again.
        store: The store with the normalised images.
        indices: Indices of the split's images, in the order of `seen`.
        seen: The predictor's output for each image.
    """
    import numpy as np

    from searcher.report.model import Example, SplitReport, choose_examples

    values = summary.to_dict()
    by_id = {each.id: (index, each) for index, each in zip(indices, seen, strict=True)}
    examples = []
    for image, reason in choose_examples(values["images"]).items():
        index, each = by_id[image]
        examples.append(
            Example(
                id=image,
                reason=reason,
                image=np.array(store.image(index)),
                truth=each.truth,
                prediction=predictor.cut(each.output).labels,
            )
        )
    return SplitReport(name=name, summary=values, examples=examples)


def is_glas_release(source: "SampleSource") -> bool:
    """Return whether a data set is the GlaS challenge's own release, and not other images in its layout."""
    from searcher.data_pipeline.datasets import GlasFolder

    return isinstance(source, GlasFolder) and source.is_the_release


def write_report(
    path: Path,
    method: str,
    command: str,
    found: "FoundNetworks",
    predictor: "Predictor",
    splits: "Sequence[SplitReport]",
    *,
    source: "SampleSource",
    fingerprint: str,
) -> None:
    """Write the report page of an evaluation.

    Args:
        path: File for the page.
        method: Name of the networks on the page.
        command: Command line that the user typed.
        found: The networks.
        predictor: The predictor that was measured.
        splits: The splits of the page, see `split_report`.
        source: The data set.
        fingerprint: Fingerprint of the data set.

    Raises:
        UserError: The file could not be written; an existing file is unchanged.
    """
    from searcher.report.html import render
    from searcher.report.model import DataSet, EvaluationReport

    report = EvaluationReport(
        method=method,
        splits=splits,
        members=[_member(member.facts) for member in found.members],
        data=DataSet(
            name=source.name,
            fingerprint=fingerprint,
            is_glas=is_glas_release(source),
            licence=source.licence or None,
        ),
        device=_device(),
        settings={
            "mean of 8 views": predictor.tta,
            "normalisation": str(predictor.kind.normalisation),
            "postprocess": {key: getattr(predictor.postprocess, key) for key in predictor.postprocess_keys},
        },
        command=command,
        versions=_versions(),
        created_at=datetime.now(UTC),
    )
    write_text("--report", path, render(report))


def _member(facts: "MemberFacts") -> "ReportMember":
    from searcher.report.model import ReportMember

    return ReportMember(
        study=facts.study,
        trial=facts.trial,
        epoch=facts.epoch,
        objective=facts.objective,
        value=facts.value,
        params=facts.params,
        config=facts.config,
        history=facts.history,
        checkpoint_sha256=facts.checkpoint_sha256,
        lineage=facts.lineage,
    )


def _device() -> str:
    import torch

    from searcher.inference.precision import default_device

    if default_device().type == "cuda":
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} threads"


def _versions() -> dict[str, str]:
    import platform
    from importlib.metadata import version

    return {"Python": platform.python_version()} | {name: version(name) for name in _VERSIONS}
