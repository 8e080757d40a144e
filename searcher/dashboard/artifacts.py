"""Where the dashboard finds the trials' pictures: below the storage roots of the database's studies."""

from pathlib import Path
from typing import BinaryIO

from bottle import HTTPError
from optuna.artifacts import FileSystemArtifactStore
from optuna.artifacts.exceptions import ArtifactNotFound

from searcher.exceptions import StorageError
from searcher.ledger.database import Database
from searcher.storage.mirror import fetch, origin_of, push
from searcher.study.layout import ARTIFACTS

__all__ = ["StudyArtifacts"]


class StudyArtifacts:
    """An artifact store of Optuna's protocol over the stores of all storage roots.

    Artifacts have unique names, so the first root that has one is the right one. The roots are asked for every time:
    studies come while a dashboard runs.

    Args:
        database: The study database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """Return an artifact's file, open.

        Raises:
            HTTPError: No root has it, 404; the folder may be another machine's. An object store cannot be used, 502.
        """
        for root in self._database.storage_roots():
            try:
                if not (root / ARTIFACTS / artifact_id).is_file():
                    fetch(root, f"{ARTIFACTS}/{artifact_id}")
                return _store(root).open_reader(artifact_id)
            except ArtifactNotFound:
                continue
            except StorageError as error:
                raise HTTPError(502, str(error)) from error
        raise HTTPError(404, "this file is in none of the studies' storage roots on this machine")

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Keep what a person uploads, in the newest study's root.

        Raises:
            HTTPError: No study has one, 409; an object store cannot be used, 502.
        """
        roots = self._database.storage_roots()
        if not roots:
            raise HTTPError(
                409, "a file is kept in a study's storage root; no study was launched with searcher yet"
            )
        (roots[0] / ARTIFACTS).mkdir(parents=True, exist_ok=True)
        _store(roots[0]).write(artifact_id, content_body)
        try:
            push(roots[0], f"{ARTIFACTS}/{artifact_id}")
        except StorageError as error:
            raise HTTPError(502, str(error)) from error

    def remove(self, artifact_id: str) -> None:
        """Remove an artifact. One that is gone already is fine: a study must be deletable without its pictures."""
        for root in self._database.storage_roots():
            if (origin := origin_of(root)) is not None:
                try:
                    origin.remove(f"{ARTIFACTS}/{artifact_id}")
                except StorageError as error:
                    raise HTTPError(502, str(error)) from error
            try:
                _store(root).remove(artifact_id)
            except ArtifactNotFound:
                continue


def _store(root: Path) -> FileSystemArtifactStore:
    return FileSystemArtifactStore(root / ARTIFACTS)
