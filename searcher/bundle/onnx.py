"""The network of a bundle for ONNX Runtime, compared with PyTorch before it is believed."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from searcher.bundle.formats import ExportFormat, Networks
from searcher.bundle.manifest import OnnxFacts
from searcher.data_pipeline.pixel_arrays import Pixels
from searcher.exceptions import SearcherError, UserError
from searcher.extras import need
from searcher.models.base import DenseModel, SegmentationModel

__all__ = ["MAX_DIFFERENCE", "ONNX", "ONNX_FORMAT", "check_exportable", "export_onnx"]

ONNX = "model.onnx"
"""The file."""

MAX_DIFFERENCE = 1e-3
"""A probability may differ from PyTorch's by this much; mostly it is a hundred times less."""
_OPSET = 20


class _MeanMaps(nn.Module):
    """The mean of the maps of one or several models, as one graph."""

    def __init__(self, models: Sequence[DenseModel]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)
        self.num_classes = models[0].num_classes

    @property
    def output_names(self) -> list[str]:
        """Names of what `forward` returns."""
        return ["maps", "classes"] if self.num_classes else ["maps"]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the models' mean maps, float32[B, C, H, W], of images uint8[B, H, W, channels]."""
        maps = [model.predict_maps(images) for model in self.models]  # type: ignore[operator]
        mean = torch.stack(maps).mean(dim=0)
        if not self.num_classes:
            return (mean,)
        return mean[:, : -self.num_classes], mean[:, -self.num_classes :]


def check_exportable(models: Sequence[SegmentationModel]) -> None:
    """Check that the models can be exported to ONNX, and that the packages for it are installed.

    Raises:
        UserError: A model has no maps of probabilities, or a package is missing.
    """
    if not all(isinstance(model, DenseModel) for model in models):
        raise UserError(
            "--onnx: must be given for a model with maps of probabilities, such as unet, got one that detects "
            "instances one by one; leave it out (--as onnx likewise)"
        )
    need("onnx", "--onnx")


def export_onnx(
    models: Sequence[SegmentationModel],
    path: Path,
    *,
    size_px: int,
    channels: int = 3,
    inputs: Mapping[str, Pixels],
) -> OnnxFacts:
    """Write the mean maps of several models as one ONNX file, compare it with PyTorch, and return the facts.

    Height and width are fixed, because the network pads and resizes by them. The batch size is free.

    Args:
        models: Models with maps, on the CPU, in eval mode; see `check_exportable`.
        path: The file.
        size_px: Height and width of the images, in pixels.
        channels: Number of channels of the images.
        inputs: Images for the comparison, by name, in addition to random ones: uint8[H, W, channels], normalised, of
            any size; they are cropped or padded.

    Returns:
        The file's facts, with the largest difference from PyTorch.

    Raises:
        SearcherError: A probability differs by more than `MAX_DIFFERENCE`.
    """
    import onnxruntime

    dense = [model for model in models if isinstance(model, DenseModel)]
    network = _MeanMaps(dense).eval()
    generator = np.random.default_rng(0)
    random = generator.integers(0, 256, (2, size_px, size_px, channels), dtype=np.uint8)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            network,
            (torch.from_numpy(random),),
            dynamo=True,
            input_names=["images"],
            output_names=network.output_names,
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
            opset_version=_OPSET,
        )
        assert program is not None
        program.save(str(path), external_data=False)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    compared = {"random pixels": random} | {
        name: _fitted(image, size_px)[None] for name, image in inputs.items()
    }
    difference = 0.0
    for batch in compared.values():
        with torch.no_grad():
            expected = network(torch.from_numpy(batch))
        for one, other in zip(session.run(None, {"images": batch}), expected, strict=True):
            difference = max(difference, float(np.abs(one - other.numpy()).max()))
    if not difference <= MAX_DIFFERENCE:
        raise SearcherError(
            f"--onnx: the maps must be PyTorch's within {MAX_DIFFERENCE:g}, got a difference of {difference:g}; the "
            "bundle was not written, leave --onnx out"
        )
    return OnnxFacts(
        file=path.name,
        height=size_px,
        width=size_px,
        opset=_OPSET,
        max_difference=difference,
        compared_on=tuple(compared),
    )


def _write(networks: Networks, folder: Path) -> Mapping[str, Any]:
    facts = export_onnx(
        networks.models,
        folder / ONNX,
        size_px=networks.size_px,
        channels=networks.channels,
        inputs=networks.images,
    )
    return facts.model_dump(mode="json")


ONNX_FORMAT = ExportFormat(_write, check=check_exportable)


def _fitted(image: Pixels, size_px: int) -> Pixels:
    """Return an image cut to the size at its upper left, or continued by its mirror image."""
    image = image[:size_px, :size_px]
    rows, columns = size_px - image.shape[0], size_px - image.shape[1]
    return np.ascontiguousarray(np.pad(image, ((0, rows), (0, columns), (0, 0)), mode="symmetric"))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress and its remarks about itself out of the terminal."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
