"""One thing that the doctor found."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from searcher.data_pipeline.exceptions import DataError
from searcher.exceptions import UserError

__all__ = ["Finding", "State"]

State = Literal["mendable", "mended", "left", "noted"]


@dataclass(kw_only=True)
class Finding:
    """One fault or remark that the doctor found, described for the user, and perhaps a function that fixes it."""

    kind: str
    """`database`, `driver`, `launch`, `trial`, `checkpoint`, `drift`, `lineage`, `folder`, `leftover` or `store`."""
    study: str | None
    where: str
    what: str
    why: str
    """Why it matters."""
    remedy: str
    """What fixes it; after a fix, what was done."""
    command: str | None = None
    """A command line that helps."""
    fix: Callable[[], str] | None = None
    """Fixes it and returns what was done."""
    is_cured: bool = True
    """Whether `fix` removes the fault; otherwise it only records it."""
    state: State = "left"
    """`mendable`: `--fix` fixes it; `left`: only a person can; `noted`: nothing that needs fixing."""

    def __post_init__(self) -> None:
        if self.fix is not None and self.is_cured:
            self.state = "mendable"

    @property
    def is_open(self) -> bool:
        """Whether the fault is not fixed."""
        return self.state in ("mendable", "left")

    def apply(self) -> None:
        """Fix the fault, if it can be fixed."""
        if self.fix is None:
            return
        try:
            done = self.fix()
        except (UserError, DataError, OSError) as error:
            self.state, self.remedy = "left", f"could not be fixed: {error}"
        else:
            if self.is_cured:
                self.state, self.remedy = "mended", done

    def postpone(self, reason: str) -> None:
        """Mark the fault as not fixed, for a reason."""
        if self.fix is not None and self.is_cured:
            self.state, self.remedy = "left", reason

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        names = ("kind", "study", "where", "what", "why", "remedy", "command", "state")
        return {name: getattr(self, name) for name in names}
