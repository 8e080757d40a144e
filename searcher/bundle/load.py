"""Opening a bundle: every file is what it was when it was written, or it is not opened at all."""

import hashlib
import io
import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import torch
from pydantic import ValidationError
from safetensors.torch import load as load_tensors

from searcher.atomic_files import sha256_of
from searcher.bundle.manifest import MANIFEST, SCHEMA, BundleManifest, MemberFacts
from searcher.bundle.member import BundleMember
from searcher.bundle.plugins import check_plugins
from searcher.escaping import one_line
from searcher.exceptions import UserError
from searcher.inference.predictor import Predictor
from searcher.inference.trained import TrainedNetwork, predictor_of
from searcher.models.base import SegmentationModel

__all__ = ["Bundle", "is_bundle", "load_bundle", "read_manifest"]

_MAX_MANIFEST_BYTES = 64 << 20
_MAX_WEIGHTS_BYTES = 8 << 30
_MAX_HEADER_BYTES = 16 << 20


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files were compared with their digests."""

    path: Path
    manifest: BundleManifest
    manifest_sha256: str
    """SHA-256 of `bundle.json`, which holds those of the other files: the bundle's identity."""
    members: tuple[BundleMember, ...]

    @property
    def name(self) -> str:
        """Name of the bundle."""
        return self.manifest.name

    @property
    def pixel_size_um(self) -> float | None:
        """Side of a pixel of the training images in micrometres; None if it is not known."""
        return self.manifest.pixel_size_um

    @property
    def class_name(self) -> str:
        """Class of the objects: the one class that the training data name; `Gland` if they name none or several."""
        return self.manifest.data.class_name or "Gland"

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes that the networks distinguish, class 1 first; empty if they learned none."""
        return self.networks[0].config.model.class_names

    @cached_property
    def networks(self) -> tuple[TrainedNetwork, ...]:
        """The trained network of each member."""
        return tuple(member.network for member in self.members)

    def models(self, device: torch.device) -> list[SegmentationModel]:
        """Return the members' models on a device, in eval mode.

        Raises:
            UserError: The weights do not fit the models of this version of searcher.
        """
        try:
            return [network.model(device) for network in self.networks]
        except ValueError as error:
            raise UserError(
                f"{self.path}: its weights must fit this version of searcher, got {error}; use the version that "
                f"wrote it, {self.manifest.versions.get('searcher', 'an unknown one')}"
            ) from error

    def predictor(self, *, device: torch.device, tta: bool | None = None) -> Predictor:
        """Return a predictor of all members, with the settings in the bundle.

        Args:
            device: Device to predict on.
            tta: Whether to average 8 turned and mirrored views; None to do as the bundle says.

        Raises:
            UserError: The weights do not fit this version, or the models cannot be used with `tta`.
        """
        wish = self.manifest.tta if tta is None else tta
        predictor = predictor_of(self.networks, self.models(device), device=device, tta=wish)
        predictor.postprocess = self.manifest.postprocess
        return predictor


def is_bundle(path: Path) -> bool:
    """Return whether a folder has a bundle's manifest. The manifest is not checked."""
    return (path / MANIFEST).is_file()


def read_manifest(path: Path) -> tuple[BundleManifest, str]:
    """Return the manifest of a bundle, and the SHA-256 of the manifest's file. Other files are not read.

    Raises:
        UserError: There is no manifest, or it is damaged or of another version.
    """
    file = path / MANIFEST
    try:
        if os.path.lexists(file) and not file.is_file():
            raise UserError(f"{file}: must be a file, got something else; use the bundle as it was exported")
        with file.open("rb") as opened:
            text = opened.read(_MAX_MANIFEST_BYTES + 1)
        if len(text) > _MAX_MANIFEST_BYTES:
            raise UserError(f"{file}: must be at most 64 MiB, got more; use the bundle as it was exported")
        sha256 = hashlib.sha256(text).hexdigest()
    except OSError as error:
        raise UserError(
            f"{path}: must be a bundle with a {MANIFEST}, got {error.strerror or error}; `searcher export` makes one"
        ) from error
    values = _json(file, text)
    if values.get("schema_version") != SCHEMA:
        got = one_line(str(values.get("schema_version"))[:60])
        raise UserError(
            f"{file}: schema_version must be {SCHEMA}, got {got}; use the version of searcher that wrote it"
        )
    try:
        return BundleManifest.model_validate_json(text), sha256
    except ValidationError as error:
        first = error.errors()[0]
        where = one_line(".".join(map(str, first["loc"]))[:200]) or "the whole"
        raise UserError(
            f"{file}: {where}: {one_line(first['msg'][:200])}; use the bundle as it was exported"
        ) from error


def load_bundle(path: Path) -> Bundle:
    """Return a bundle, after comparing all its files with their digests. Nothing in it is executed or unpickled.

    The plug-ins that it needs must be installed, or loaded before by `searcher.plugins.load_plugins`.

    Raises:
        UserError: The folder is no bundle, is damaged or of another version, or a plug-in is missing; one line.
    """
    manifest, manifest_sha256 = read_manifest(path)
    check_plugins(path, manifest.plugins)
    contents = {name: _verified(path, name, manifest) for name in manifest.files}
    members = [_member(path, facts, contents[facts.weights], manifest.dtype) for facts in manifest.members]
    for member in members:
        if member.network.kind != manifest.kind:
            raise UserError(
                f"{path / MANIFEST}: channels and normalisation must be those that its networks were trained with, "
                f"{member.network.kind}, got {manifest.kind}; use the bundle as it was exported"
            )
    for member in members:
        learned = member.network.config.model.class_names
        if learned != manifest.class_names:
            raise UserError(
                f"{path / MANIFEST}: class_names must be those that its networks were trained with, "
                f"{', '.join(learned) or 'none'}, got {', '.join(manifest.class_names) or 'none'}; use the bundle as "
                "it was exported"
            )
    return Bundle(path=path, manifest=manifest, manifest_sha256=manifest_sha256, members=tuple(members))


def _json(file: Path, text: bytes) -> dict[str, Any]:
    try:
        values = json.loads(text)
        json.dumps(values, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: must be JSON, got {error}; use the bundle as it was exported") from error
    if not isinstance(values, dict):
        raise UserError(f"{file}: must be a JSON object, got {type(values).__name__}; use another folder")
    return values


def _verified(path: Path, name: str, manifest: BundleManifest) -> bytes:
    """Return the content of a file of weights: the very bytes whose digest was looked at. Of others, nothing."""
    file, facts = path / name, manifest.files[name]
    is_needed = any(name == member.weights for member in manifest.members)
    try:
        if file.is_symlink() or not file.is_file():
            raise UserError(f"{file}: must be a file of the bundle, got none; copy the whole folder again")
        with file.open("rb") as opened:
            _check_size(file, opened, facts.num_bytes, is_weights=is_needed)
            content = opened.read(facts.num_bytes) if is_needed else b""
            sha256, num_bytes = sha256_of(io.BytesIO(content) if is_needed else opened)
    except OSError as error:
        raise UserError(
            f"{file}: must be readable, got {error.strerror or error}; copy the whole folder again"
        ) from error
    if (sha256, num_bytes) != (facts.sha256, facts.num_bytes):
        raise UserError(
            f"{file}: sha256 must be {facts.sha256} ({facts.num_bytes} bytes), got {sha256} ({num_bytes} bytes): it "
            "was changed or damaged; copy the whole folder again"
        )
    return content


def _check_size(file: Path, opened: BinaryIO, num_expected: int, *, is_weights: bool) -> None:
    """Refuse a file whose size is not the one of the bundle or of its own header, before it takes memory or time."""
    num_bytes = os.fstat(opened.fileno()).st_size
    if num_bytes != num_expected:
        raise UserError(
            f"{file}: must have {num_expected} bytes, got {num_bytes}: it was changed or damaged; copy the whole "
            "folder again"
        )
    if not is_weights:
        return
    header_bytes = int.from_bytes(opened.read(8), "little")
    opened.seek(0)
    if num_bytes > _MAX_WEIGHTS_BYTES or header_bytes > min(_MAX_HEADER_BYTES, num_bytes):
        raise UserError(
            f"{file}: must hold weights of at most {_MAX_WEIGHTS_BYTES >> 30} GiB behind a header of at most "
            f"{_MAX_HEADER_BYTES >> 20} MiB, got {num_bytes} bytes with a header of {header_bytes}; use another bundle"
        )


def _member(path: Path, facts: MemberFacts, content: bytes, dtype: str) -> BundleMember:
    try:
        weights = load_tensors(content)
        return BundleMember(TrainedNetwork.from_plain(facts.config, weights, facts.tuned, dtype), facts)
    except Exception as error:  # whatever foreign bytes make the reader of weights stumble over
        reason = one_line(" ".join(str(error).split())[:160]) or type(error).__name__
        raise UserError(
            f"{path / facts.weights}: must hold weights for this version of searcher, got {reason}; use the version "
            "that wrote it"
        ) from error
