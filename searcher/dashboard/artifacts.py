"""Where the dashboard finds the trials' pictures: below the storage roots of the database's studies."""

from typing import BinaryIO

from bottle import HTTPError
from optuna.artifacts import FileSystemArtifactStore
from optuna.artifacts.exceptions import ArtifactNotFound

from searcher.ledger.database import Database
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
            HTTPError: No root has it, 404; the folder may be another machine's.
        """
        for store in self._stores():
            try:
                return store.open_reader(artifact_id)
            except ArtifactNotFound:
                continue
        raise HTTPError(404, "this file is in none of the studies' storage roots on this machine")

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Keep what a person uploads, in the newest study's root.

        Raises:
            HTTPError: No study has one, 409.
        """
        roots = self._database.storage_roots()
        if not roots:
            raise HTTPError(
                409, "a file is kept in a study's storage root; no study was launched with searcher yet"
            )
        root = roots[0] / ARTIFACTS
        root.mkdir(parents=True, exist_ok=True)
        FileSystemArtifactStore(root).write(artifact_id, content_body)

    def remove(self, artifact_id: str) -> None:
        """Remove an artifact. One that is gone already is fine: a study must be deletable without its pictures."""
        for store in self._stores():
            try:
                store.remove(artifact_id)
            except ArtifactNotFound:
                continue

    def _stores(self) -> list[FileSystemArtifactStore]:
        return [FileSystemArtifactStore(root / ARTIFACTS) for root in self._database.storage_roots()]
