"""Writing networks in one or several formats, into a folder that appears complete or not at all."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from searcher.bundle.contents import versions
from searcher.bundle.folder import EXPORT, check_target, facts_of, files_of, new_folder, write_file
from searcher.bundle.formats import BUNDLE, EXPORTS, Networks, check_formats
from searcher.bundle.manifest import MANIFEST, BundleManifest, FileFacts
from searcher.bundle.plugins import plugins_of
from searcher.exceptions import SearcherError, UserError
from searcher.plugins import BUILT_IN, PluginError

__all__ = ["Written", "write_export"]

SCHEMA = "searcher-export-1"
"""The kind of `export.json`."""


class Written(NamedTuple):
    """The result of an export: digest, files and facts."""

    sha256: str
    """Of its manifest, `bundle.json` or `export.json`, which holds the digests of its other files."""
    files: Mapping[str, FileFacts]
    """Every file but the manifest."""
    formats: Mapping[str, Mapping[str, Any]]
    """The facts of each format about its files."""
    manifest: BundleManifest | None
    """The bundle's; None where none was written."""


def write_export(
    target: Path, networks: Networks, *, formats: Sequence[str] = (BUNDLE,), force: bool = False
) -> Written:
    """Write networks in one or several formats into a new folder, and return what was written.

    All files are written into a temporary folder next to the target and flushed to disk. Then that folder is renamed to
    the target. After a kill at any moment, the target is the old or the new export, complete. The next export removes
    temporary folders `.NAME.*.partial` that a killed one left.

    Args:
        target: The folder to write.
        networks: The networks. Their models must be built, which shows that the bundle can be opened.
        formats: Names of formats, each once. A bundle is written last, because it lists the files of the others.
        force: Whether to replace an existing export.

    Raises:
        UserError: A format is unknown, the target exists or cannot be written, or the networks cannot be exported in
            such a format.
        PluginError: A plug-in's format did not do what `register_export` demands; the message names it.
    """
    check_formats(formats)
    check_target(target, force=force)
    try:
        with new_folder(target, force=force) as folder:
            kept: dict[str, dict[str, Any]] = {}
            for name in sorted(formats, key=lambda each: each == BUNDLE):
                kept[name] = _write_format(name, networks, folder, kept)
            files = {name: facts_of(folder / name) for name in files_of(folder)}
            if BUNDLE in formats:
                said = files.pop(MANIFEST)
                manifest = BundleManifest.model_validate_json((folder / MANIFEST).read_bytes())
            else:
                said, manifest = write_file(folder / EXPORT, _list(networks, kept, files)), None
    except OSError as error:
        raise UserError(
            f"--to {target}: could not be written: {error.strerror or error}; make room"
        ) from error
    return Written(said.sha256, files, {name: each["facts"] for name, each in kept.items()}, manifest)


def _write_format(
    name: str, networks: Networks, folder: Path, beside: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the names of the files that a format wrote, and its facts about them."""
    before, origin = {*files_of(folder)}, EXPORTS.origin(name)
    try:
        facts = dict(EXPORTS[name].made(networks, folder, beside=beside) or {})
        facts = json.loads(json.dumps(facts, allow_nan=False))
    except (SearcherError, OSError):
        raise
    except Exception as error:  # a plug-in may raise anything
        if origin == BUILT_IN:
            raise
        what = " ".join(str(error).split())
        raise PluginError(
            f"--as {name}: {origin} must write it, got {type(error).__name__}: {what}"
        ) from error
    added = sorted({*files_of(folder)} - before)
    wrong = [each for each in added if (folder / each).is_symlink() or not (folder / each).is_file()]
    if wrong or not added:
        got = f"{wrong[0]}, which is none" if wrong else "nothing"
        raise PluginError(f"--as {name}: {origin} must write plain files into the folder, got {got}")
    if origin != BUILT_IN and (taken := {*added} & {MANIFEST, EXPORT}):
        raise PluginError(
            f"--as {name}: {origin} must leave {taken.pop()} to searcher; name its file otherwise"
        )
    return {"files": added, "facts": facts}


def _list(networks: Networks, kept: Mapping[str, Mapping[str, Any]], files: Mapping[str, FileFacts]) -> bytes:
    """Return the content of `export.json`: the networks, the versions, and the digest of every file."""
    said = {
        "schema_version": SCHEMA,
        "name": networks.name,
        "created_at": datetime.now(UTC).isoformat(),
        "versions": versions(),
        "formats": kept,
        "networks": [
            member.facts.model_dump(mode="json", exclude={"weights"}) for member in networks.members
        ],
        "plugins": [
            each.model_dump(mode="json")
            for each in plugins_of(member.network.config for member in networks.members)
        ],
        "data": networks.data.model_dump(mode="json"),
        "files": {name: each.model_dump() for name, each in files.items()},
    }
    return json.dumps(said, indent=2).encode() + b"\n"
