"""The kind of a store's label maps, determined once and kept in the store's folder.

`label-facts.json` in the store's folder holds what `label_facts` counts of each image. It can be deleted at any time:
it is made again, which takes about as long as decoding the images. A cache folder that cannot be written is fine too.
"""

import contextlib
import dataclasses
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from searcher.data_pipeline.label_evidence import KINDS, LabelFacts, Verdict, judge, label_facts
from searcher.data_pipeline.store import Store

__all__ = ["annotation_facts", "problem_of"]

_FILE = "label-facts.json"
_FORMAT = 1
_SHOWN = 5
_REMEDIES = {
    "binary": "--labels-are binary",
    "inverted": "--labels-are binary-inverted",
    "classes": "--labels-are classes",
    "soft": "--labels-are binary",
    "split": "--labels-are binary",
    "no background": "--labels-are binary-inverted",
}


def annotation_facts(store: Store) -> tuple[LabelFacts, ...]:
    """Return the counts that `label_facts` finds in each label map of a store, in the order of the store's samples.

    They are computed once and kept in a file in the store's folder.

    Args:
        store: The store of the data set.
    """
    path = store.path / _FILE
    known = _read(path, store)
    if known is not None:
        return known
    facts = tuple(label_facts(store.labels(index)) for index in range(len(store)))
    with contextlib.suppress(OSError):
        _write(path, store, facts)
    return facts


def problem_of(where: str, ids: Sequence[str], facts: Sequence[LabelFacts]) -> tuple[str, Verdict] | None:
    """Return why a data set's label maps do not seem to be label maps: one line, and the verdict; None if they do.

    Args:
        where: The data set, for the line.
        ids: Names of the images.
        facts: The result of `label_facts` for the same images.
    """
    verdict = judge(facts)
    if verdict is None:
        return None
    names = ", ".join(ids[index] for index in verdict.images[:_SHOWN])
    more = ", .." if len(verdict.images) > _SHOWN else ""
    line = (
        f"{where}: a label map must have one number per object, got {verdict.evidence} in {names}{more} "
        f"({len(verdict.images)} of {len(ids)} images), as {KINDS[verdict.kind]} have"
    )
    remedy = (
        f"add {_REMEDIES[verdict.kind]}" if verdict.is_of_all else "correct these files, or move them away"
    )
    return f"{line}; {remedy}, or --labels-are instances if every number is one object", verdict


def _read(path: Path, store: Store) -> tuple[LabelFacts, ...] | None:
    """Return what an earlier process found; None where there is nothing of use."""
    try:
        content = json.loads(path.read_bytes())
        if content["format"] != _FORMAT or content["fingerprint"] != store.fingerprint:
            return None
        facts = tuple(_from_plain(each) for each in content["images"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return facts if len(facts) == len(store) else None


def _from_plain(values: dict[str, Any]) -> LabelFacts:
    return LabelFacts(
        **{**values, "areas": tuple(values["areas"]), "extents": tuple((h, w) for h, w in values["extents"])}
    )


def _write(path: Path, store: Store, facts: Sequence[LabelFacts]) -> None:
    images = [dataclasses.asdict(each) for each in facts]
    content = {"format": _FORMAT, "fingerprint": store.fingerprint, "images": images}
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{_FILE}.", delete=False) as file:
        try:
            json.dump(content, file)
            file.close()
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
