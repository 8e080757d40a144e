"""Where a study comes from: the studies before it, as databases, bundles and reports say it."""

from pydantic import Field

from searcher.study.config import Section

__all__ = ["Ancestor"]


class Ancestor(Section):
    """A study from which another one is derived."""

    study: str
    """Its name."""
    how: str
    """What was taken from it: `refine`, `rerank` or `finetune`; `unknown` if another version wrote it."""
    trials: tuple[int, ...]
    """Its trials that decided what came after, the best first."""
    sha256: str | None = Field(pattern=r"^[0-9a-f]{64}$")
    """Digest of the checkpoint that training began from, where it did."""
