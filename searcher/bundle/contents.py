"""What is in a bundle's folder: weights, pictures, the model card, and the manifest that names every file."""

import json
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as save_tensors

from searcher._version import __version__
from searcher.bundle.card import model_card
from searcher.bundle.folder import facts_of, files_of, write_file
from searcher.bundle.formats import ExportFormat, Networks
from searcher.bundle.manifest import (
    MANIFEST,
    BundleManifest,
    FormatFacts,
    NormalisationFacts,
    OnnxFacts,
)
from searcher.bundle.plugins import plugins_of
from searcher.inference.trained import predictor_of, uses_tta

__all__ = ["BUNDLE_FORMAT", "CARD", "versions", "weights_files", "write_contents"]

CARD = "README.md"
"""The model card."""
_PACKAGES = ("torch", "torchvision", "numpy", "safetensors")


def weights_files(num_members: int) -> list[str]:
    """Return the file names of the weights in a bundle with `num_members` networks."""
    if num_members == 1:
        return ["weights.safetensors"]
    return [f"weights-{number}.safetensors" for number in range(1, num_members + 1)]


def versions() -> dict[str, str]:
    """Return the versions of Python, searcher and the packages that affect a network, by name."""
    return {"searcher": __version__, "python": platform.python_version()} | {
        package: version(package) for package in _PACKAGES
    }


def write_contents(
    networks: Networks, folder: Path, *, beside: Mapping[str, Mapping[str, Any]]
) -> Mapping[str, Any]:
    """Write the files of a bundle into a folder that already has the files of the other formats.

    Args:
        networks: The networks. Their `facts.weights` are the names that `weights_files` returns.
        folder: The folder to write into.
        beside: For each other format, its `files` and its `facts`.

    Returns:
        An empty mapping: this format has no facts of its own.

    Raises:
        UserError: The networks cannot predict together.
    """
    trained = [member.network for member in networks.members]
    predictor = predictor_of(trained, networks.models, device=torch.device("cpu"))
    train, kind = trained[0].config.train, predictor.kind
    files = {name: facts_of(folder / name) for name in files_of(folder)}
    for member in networks.members:
        weights = {key: tensor.contiguous() for key, tensor in member.network.weights.items()}
        files[member.facts.weights] = write_file(folder / member.facts.weights, save_tensors(weights))
    for file, content in networks.pictures.items():
        files[file] = write_file(folder / file, content)
    onnx = beside.get("onnx")
    manifest = BundleManifest(
        name=networks.name,
        created_at=datetime.now(UTC),
        versions=versions(),
        members=tuple(member.facts for member in networks.members),
        postprocess=predictor.postprocess,
        tta=uses_tta(trained),
        tile_px=train.eval_tile_px,
        tile_overlap_px=train.eval_tile_overlap_px,
        pixel_size_um=networks.pixel_size_um,
        channels=kind.channels,
        dtype=kind.dtype,
        normalisation=NormalisationFacts(
            kind=kind.normalisation.kind,
            low_percentile=kind.normalisation.low_percentile,
            high_percentile=kind.normalisation.high_percentile,
        ),
        class_names=trained[0].config.model.class_names,
        data=networks.data,
        onnx=None if onnx is None else OnnxFacts.model_validate_json(json.dumps(onnx["facts"])),
        plugins=plugins_of(network.config for network in trained),
        formats=_formats(beside),
        files=files,
    )
    card = model_card(manifest, [*networks.pictures]).encode()
    manifest = manifest.model_copy(update={"files": files | {CARD: write_file(folder / CARD, card)}})
    write_file(folder / MANIFEST, manifest.model_dump_json(indent=2).encode() + b"\n")
    return {}


def _formats(beside: Mapping[str, Mapping[str, Any]]) -> dict[str, FormatFacts]:
    """Return what the formats of plug-ins keep; ours has a field of its own."""
    others = (name for name in beside if name != "onnx")
    return {name: FormatFacts.model_validate_json(json.dumps(beside[name])) for name in others}


BUNDLE_FORMAT = ExportFormat(write_contents)
