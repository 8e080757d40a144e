"""What is kept beside a store about its labels, and made again where it is of no use."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from searcher.data_pipeline import annotations
from searcher.data_pipeline.annotations import annotation_facts
from searcher.data_pipeline.store import Store, prepare_store


@pytest.fixture
def store(tmp_path: Path, array_source: Callable) -> Store:
    labels = np.zeros((20, 30), np.int32)
    labels[2:6, 3:8] = 4
    return prepare_store(array_source([(np.zeros((20, 30, 3), np.uint8), labels)] * 2), tmp_path)


def test_labels_are_looked_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first = annotation_facts(store)
    assert [each.areas for each in first] == [(20,), (20,)]
    monkeypatch.setattr(annotations, "label_facts", lambda _: pytest.fail("looked at again"))
    assert annotation_facts(Store.open(store.path)) == first


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b'{"format": 99}', b'{"format": 1, "images": 3}']
)
def test_a_damaged_file_is_made_again(store: Store, content: bytes) -> None:
    first = annotation_facts(store)
    path = store.path / "label-facts.json"
    whole = path.read_bytes()
    path.write_bytes(content)
    assert annotation_facts(store) == first
    assert path.read_bytes() == whole


def test_a_store_in_a_folder_that_cannot_be_written_is_fine(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(annotations, "_write", refuse)
    assert len(annotation_facts(store)) == 2
    assert not (store.path / "label-facts.json").exists()
