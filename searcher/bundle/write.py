"""Writing a bundle: a whole folder appears under its name, or nothing does."""

import contextlib
import fcntl
import glob
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import save as save_tensors

from searcher._version import __version__
from searcher.bundle.card import model_card
from searcher.bundle.load import is_bundle
from searcher.bundle.manifest import (
    MANIFEST,
    BundleManifest,
    DataFacts,
    FileFacts,
    NormalisationFacts,
    OnnxFacts,
)
from searcher.bundle.member import Member
from searcher.bundle.plugins import plugins_of
from searcher.exceptions import UserError
from searcher.files import exchange, sha256_of, sync_folder, write_atomically
from searcher.inference.trained import predictor_of, uses_tta
from searcher.models.base import SegmentationModel

__all__ = ["CARD", "ONNX", "check_target", "weights_files", "write_bundle"]

CARD = "README.md"
"""The model card."""
ONNX = "model.onnx"
_PARTIAL = ".partial"
"""What the name of a bundle's folder ends in while it is written."""
_PACKAGES = ("torch", "torchvision", "numpy", "safetensors")


def weights_files(num_members: int) -> list[str]:
    """Return the names of the files of weights of a bundle with so many networks."""
    if num_members == 1:
        return ["weights.safetensors"]
    return [f"weights-{number}.safetensors" for number in range(1, num_members + 1)]


def check_target(target: Path, *, force: bool) -> None:
    """Check that a bundle can be written there, before the work that it takes.

    Raises:
        UserError: Something is there and `force` does not allow to replace it, or the place cannot be written.
    """
    parent = target.absolute().parent
    if not parent.is_dir():
        raise UserError(f"--to {target}: its folder must exist, got none; create {parent}")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(f"--to {target}: {parent} must be writable, got no permission; choose another path")
    if not os.path.lexists(target):
        return
    is_empty_folder = target.is_dir() and not target.is_symlink() and not any(target.iterdir())
    if is_empty_folder:
        return
    if target.is_symlink() or not is_bundle(target):
        raise UserError(
            f"--to {target}: must be a new folder or a bundle to replace, got something else; choose another path"
        )
    if not force:
        raise UserError(
            f"--to {target}: must not exist, got a bundle that is already there; add --force to replace it, or "
            "choose another path"
        )


def write_bundle(
    target: Path,
    name: str,
    members: Sequence[Member],
    models: Sequence[SegmentationModel],
    *,
    data: DataFacts,
    pixel_size_um: float | None = None,
    pictures: Mapping[str, bytes] | None = None,
    onnx: Callable[[Path], OnnxFacts] | None = None,
    force: bool = False,
) -> tuple[BundleManifest, str]:
    """Write a bundle and return its manifest with the SHA-256 of `bundle.json`.

    All is written into a folder beside the target and flushed to disk; then that takes the target's name. Killed at
    any moment, the old bundle or the new one is whole under its name. What a killed export left beside it, as
    `.NAME.*.partial`, is removed by the next one.

    Args:
        target: The folder to be.
        name: What the bundle is called.
        members: At least one; several are an ensemble. Their `facts.weights` are names as `weights_files` gives.
        models: Their models, on the CPU: that they could be built proves that whoever opens the bundle can.
        data: What they were trained on.
        pixel_size_um: Of those images.
        pictures: Image files for the model card, by file name.
        onnx: Writes the network for ONNX Runtime to a path and says what it is.
        force: Replace a bundle that is there.

    Raises:
        UserError: The target is taken or cannot be written, or the members cannot be asked together.
    """
    check_target(target, force=force)
    networks = [member.network for member in members]
    predictor = predictor_of(networks, models, device=torch.device("cpu"))
    train, kind = networks[0].config.train, predictor.kind
    try:
        with _new_folder(target, force=force) as folder:
            files = {}
            for member in members:
                weights = {key: tensor.contiguous() for key, tensor in member.network.weights.items()}
                files[member.facts.weights] = _write(folder / member.facts.weights, save_tensors(weights))
            for file, content in (pictures or {}).items():
                files[file] = _write(folder / file, content)
            onnx_facts = None
            if onnx is not None:
                onnx_facts = onnx(folder / ONNX)
                files[ONNX] = _flushed(folder / ONNX)
            manifest = BundleManifest(
                name=name,
                created_at=datetime.now(UTC),
                versions=_versions(),
                members=tuple(member.facts for member in members),
                postprocess=predictor.postprocess,
                tta=uses_tta(networks),
                tile_px=train.eval_tile_px,
                tile_overlap_px=train.eval_tile_overlap_px,
                pixel_size_um=pixel_size_um,
                channels=kind.channels,
                dtype=kind.dtype,
                normalisation=NormalisationFacts(
                    kind=kind.normalisation.kind,
                    low_percentile=kind.normalisation.low_percentile,
                    high_percentile=kind.normalisation.high_percentile,
                ),
                data=data,
                onnx=onnx_facts,
                plugins=plugins_of(network.config for network in networks),
                files=files,
            )
            card = model_card(manifest, [*(pictures or {})]).encode()
            files = files | {CARD: _write(folder / CARD, card)}
            manifest = manifest.model_copy(update={"files": files})
            text = manifest.model_dump_json(indent=2).encode() + b"\n"
            written = _write(folder / MANIFEST, text)
    except OSError as error:
        raise UserError(
            f"--to {target}: could not be written: {error.strerror or error}; make room"
        ) from error
    return manifest, written.sha256


def _write(path: Path, content: bytes) -> FileFacts:
    written = write_atomically(path, lambda writer: writer.write(content))
    return FileFacts(sha256=written.sha256, num_bytes=written.num_bytes)


def _flushed(path: Path) -> FileFacts:
    """Return what a file is that something else wrote, once it is safely on disk."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())
        sha256, num_bytes = sha256_of(file)
    return FileFacts(sha256=sha256, num_bytes=num_bytes)


@contextlib.contextmanager
def _new_folder(target: Path, *, force: bool) -> Iterator[Path]:
    """Yield an empty folder that takes the target's place at the end; after an error it is gone."""
    parent = target.absolute().parent
    _remove_leftovers(parent, target.name)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=_PARTIAL, dir=parent))
    held = _locked(folder)  # until the end of this process, whatever it dies of
    try:
        folder.chmod(0o777 & ~_umask())
        yield folder
        check_target(target, force=force)  # something may have come there meanwhile
        if force and target.is_dir():
            exchange(folder, target)
        else:
            folder.rename(target)  # also over an empty folder, which POSIX allows
        sync_folder(parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # the old bundle by now, if there was one
        if held is not None:
            os.close(held)


def _remove_leftovers(parent: Path, name: str) -> None:
    """Remove what exports to this target left that were killed; an export that is at work holds its folder locked."""
    for folder in parent.glob(f".{glob.escape(name)}.*{_PARTIAL}"):
        if folder.is_symlink() or not folder.is_dir():
            continue
        held = _locked(folder)
        if held is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(held)


def _locked(folder: Path) -> int | None:
    """Return the descriptor of a folder that is locked by it, None if another process holds it, or nobody can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _versions() -> dict[str, str]:
    return {"searcher": __version__, "python": platform.python_version()} | {
        package: version(package) for package in _PACKAGES
    }
