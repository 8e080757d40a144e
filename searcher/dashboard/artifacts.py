"""Where the dashboard finds the trials' pictures: below the storage roots of the database's studies."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from bottle import HTTPError
from optuna.artifacts import FileSystemArtifactStore
from optuna.artifacts.exceptions import ArtifactNotFound

from searcher.exceptions import StorageError
from searcher.ledger.database import Database
from searcher.storage.mirror import fetch, local_root, push, root_text, storage_of
from searcher.study.layout import ARTIFACTS

__all__ = ["StudyArtifacts"]

logger = logging.getLogger(__name__)


class StudyArtifacts:
    """An artifact store with Optuna's interface that covers the storage roots of all studies.

    Artifacts have unique names, so the first root that has one is the right one. The roots are read at each call,
    because studies are added while a dashboard runs. A root that cannot be used on this machine is logged once and
    skipped.

    Args:
        database: The study database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._logged: set[str] = set()

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """Return an open file with an artifact's content.

        Raises:
            HTTPError: 404 if no root has the artifact (the folder may be on another machine); 502 if a root that may
                have it cannot be used.
        """
        unusable: list[Exception] = []
        for root in self._roots(artifact_id, unusable):
            with self._passed_over(root_text(root), unusable):
                if (root / ARTIFACTS / artifact_id).is_file() or fetch(root, f"{ARTIFACTS}/{artifact_id}"):
                    return _store(root).open_reader(artifact_id)
        _refuse(unusable)
        raise HTTPError(404, "this file is in none of the studies' storage roots on this machine")

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Store an uploaded file in the storage root of the newest study.

        Raises:
            HTTPError: 409 if the database has no study; 502 if the storage root cannot be used.
        """
        texts = self._database.storage_roots()
        if not texts:
            raise HTTPError(
                409, "a file is kept in a study's storage root; no study was launched with searcher yet"
            )
        unusable: list[Exception] = []
        with self._passed_over(texts[0], unusable):
            root = local_root(texts[0])
            (root / ARTIFACTS).mkdir(parents=True, exist_ok=True)
            _store(root).write(artifact_id, content_body)
            push(root, f"{ARTIFACTS}/{artifact_id}")
        _refuse(unusable)

    def remove(self, artifact_id: str) -> None:
        """Delete an artifact. A missing one is no error, because a study must be deletable without its pictures.

        Raises:
            HTTPError: 502 if no root had the artifact, and one that may have it cannot be used.
        """
        unusable: list[Exception] = []
        for root in self._roots(artifact_id, unusable):
            with self._passed_over(root_text(root), unusable):
                if (storage := storage_of(root)).is_remote:
                    storage.remove(f"{ARTIFACTS}/{artifact_id}")
                _store(root).remove(artifact_id)
                return
        _refuse(unusable)

    def _roots(self, artifact_id: str, unusable: list[Exception]) -> list[Path]:
        """Return this machine's folders of the roots that can be used, those with the artifact first.

        Local pictures are found without a request to an object store, which may be away and slow to answer.
        """
        roots = []
        for text in self._database.storage_roots():
            with self._passed_over(text, unusable):
                roots.append(local_root(text))
        return sorted(roots, key=lambda root: not (root / ARTIFACTS / artifact_id).is_file())

    @contextmanager
    def _passed_over(self, text: str, unusable: list[Exception]) -> Iterator[None]:
        """Note a storage root that cannot be used, or does not have the artifact, instead of ending with it."""
        try:
            yield
        except ArtifactNotFound:
            pass
        except (StorageError, OSError) as error:
            unusable.append(error)
            if text not in self._logged:
                self._logged.add(text)
                logger.warning("pictures in %s cannot be shown or kept: %s", text, error)


def _refuse(unusable: list[Exception]) -> None:
    if unusable:
        raise HTTPError(502, str(unusable[0])) from unusable[0]


def _store(root: Path) -> FileSystemArtifactStore:
    return FileSystemArtifactStore(root / ARTIFACTS)
