"""`searcher doctor`: find what is wrong with the studies of a database, and fix it."""

import argparse
from typing import TYPE_CHECKING

from searcher.api.upkeep import examine_studies
from searcher.cli.options import Verbs, add_reading, database_address

if TYPE_CHECKING:
    from searcher.ledger.doctor import Finding

__all__ = ["add_parser"]


def add_parser(verbs: Verbs) -> None:
    """Add the command and its options to the parser of `searcher`."""
    parser = verbs.add_parser(
        "doctor",
        description="Looks for trials and launches whose driver is gone, checkpoints that are missing or damaged, "
        "study files that were changed, deleted parents, leftover files, and data stores that are half-built or "
        "damaged. Never removes a result.",
        epilog="Exit code 0: nothing found, or everything fixed. 1: something is left.",
    )
    add_reading(parser, study_required=False)
    parser.add_argument("--fix", action="store_true", help="fix what can be fixed")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from searcher.cli.terminal import print_json, progress_bar

    with progress_bar("comparing checkpoints") as advance:
        findings = examine_studies(database_address(args), args.study, fix=args.fix, progress=advance)
    if args.json:
        print_json([finding.to_dict() for finding in findings])
    else:
        _print(findings)
    return 1 if any(finding.is_open for finding in findings) else 0


def _print(findings: "list[Finding]") -> None:
    from searcher.cli.tables import table
    from searcher.cli.terminal import console

    if findings:
        rows = [(f.state, f.study, f.where, _sentence(f)) for f in findings]
        console.print(table(["state", "study", "~where", "~what, why it matters, what fixes it"], rows))
    for finding in findings:
        if finding.command is not None and finding.is_open:
            console.print(
                f"train the parameters of {finding.where} again: {finding.command}",
                markup=False,
                soft_wrap=True,
            )
    console.print(_summary(findings), markup=False, soft_wrap=True)


def _sentence(finding: "Finding") -> str:
    parts = [finding.what, finding.why, finding.remedy]
    return "; ".join(parts if finding.state != "mended" else [finding.what, finding.remedy])


def _summary(findings: "list[Finding]") -> str:
    counts = {state: sum(finding.state == state for finding in findings) for state in _SAID}
    said = [text.format(count) for state, text in _SAID.items() if (count := counts[state])]
    return "; ".join(said) or "nothing is wrong"


_SAID = {
    "mended": "{} fixed",
    "mendable": "{} to fix with --fix",
    "left": "{} left, which --fix cannot fix",
    "noted": "{} to know of",
}
