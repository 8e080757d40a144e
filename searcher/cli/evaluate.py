"""`searcher evaluate`: the official metrics of a bundle or of checkpoints on the splits of a data set."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from searcher.cli.members import Found, add_members, find_members, predictor_for
from searcher.cli.normalisation import add_normalisation, normalise_as_wished
from searcher.cli.options import Verbs, add_data, check_writable, data_folder, open_source, write_text
from searcher.cli.streams import say_problem
from searcher.json_text import json_text
from searcher.storage.mirror import cache_dir

if TYPE_CHECKING:
    from searcher.data_pipeline.datasets import SampleSource
    from searcher.data_pipeline.normalisation import Normalisation
    from searcher.data_pipeline.store import Store
    from searcher.evaluation.summary import Summary
    from searcher.inference.image_kind import ImageKind
    from searcher.report.model import SplitReport

__all__ = ["add_parser"]


def add_parser(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.add_parser("evaluate", help="measure a bundle or checkpoints by the official metrics")
    add_members(parser, bundles=True)
    add_data(parser, required=True)
    parser.add_argument(
        "--splits",
        metavar="A,B",
        help="splits of the data set; default testA, or where there is none all but train and val",
    )
    parser.add_argument(
        "--tta",
        action=argparse.BooleanOptionalAction,
        help="average the 8 turned and mirrored versions of an image; default: as the checkpoint was tuned",
    )
    add_normalisation(parser)
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write all figures there too, image by image"
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FILE.html",
        help="write one page to look at: ranks in the contest's table, pictures, figures by grade, training",
    )
    parser.add_argument(
        "--name", help="what it is called in the file and by searcher benchmark; default the study or folder"
    )
    parser.set_defaults(run=_run, outlives_output=True)


def _run(args: argparse.Namespace) -> int:
    from searcher.cli.evaluation_report import split_report, write_report
    from searcher.cli.summaries import print_summaries
    from searcher.cli.terminal import console, progress_bar
    from searcher.data_pipeline.store import normalised, prepare_store
    from searcher.evaluation.glas.records import EVALUATION_SCHEMA
    from searcher.inference.measuring import measure_split, see_all
    from searcher.training.data_check import reading_remarks

    check_writable("--json", args.json)
    check_writable("--report", args.report)
    found = find_members(args)
    predictor = predictor_for(found, args.tta)
    normalise_as_wished(predictor, args.normalisation, [member.facts.config for member in found.members])
    folder = data_folder(args)
    assert folder is not None
    source = open_source(args)
    _check_channels(source, args, predictor.kind)
    with progress_bar("preparing images") as advance:
        store = prepare_store(source, cache_dir(), progress=advance)
    splits: dict[str, Summary] = {}
    pages: list[SplitReport] = []
    for line in reading_remarks(store):
        say_problem(line)
    wanted = _splits(store, args.splits)
    _check_annotations(store, args, wanted)
    _say_brightened(store, predictor.kind.normalisation, wanted)
    store = normalised(store, predictor.kind.normalisation)
    for split, indices in wanted.items():
        with progress_bar(f"predicting {split}") as advance:
            seen = see_all(predictor, store, indices, advance)
        splits[split] = measure_split(predictor, seen)
        if args.report is not None:
            pages.append(split_report(split, splits[split], predictor, store, indices, seen))
    print_summaries(splits)
    if args.json is not None:
        record = {
            "schema": EVALUATION_SCHEMA,
            "name": args.name or found.name,
            "data": {"folder": folder, "fingerprint": store.fingerprint},
            "paths": [str(path) for path in found.paths],
            "members": [member.facts.model_dump(mode="json") for member in found.members],
            "postprocess": predictor.postprocess.model_dump(),
            "tta": predictor.tta,
            "normalisation": str(predictor.kind.normalisation),
            "splits": {split: summary.to_dict() for split, summary in splits.items()},
        }
        write_text("--json", args.json, json_text(record))
        console.print(f"all figures, image by image: {args.json}", markup=False, soft_wrap=True)
    if args.report is not None:
        write_report(args, found, predictor, pages, source=source, fingerprint=store.fingerprint)
        console.print(f"the report, for a browser: {args.report}", markup=False, soft_wrap=True)
    _record(found, splits, folder, store.fingerprint)
    return 0


def _record(found: Found, splits: "dict[str, Summary]", data_source: str, data_fingerprint: str) -> None:
    """Write down in the study database what its trials reached."""
    if found.study is None:
        return
    from searcher.ledger.database import Database
    from searcher.ledger.outcomes import record_evaluations

    assert found.database is not None
    keys = ("num_images", "pooled", "mean", "intervals", "poster")
    with Database.open(found.database) as database:
        record_evaluations(
            database,
            found.study.name,
            found.trials,
            data_source=data_source,
            data_fingerprint=data_fingerprint,
            splits={split: {key: of.to_dict()[key] for key in keys} for split, of in splits.items()},
        )


def _check_channels(source: "SampleSource", args: argparse.Namespace, kind: "ImageKind") -> None:
    """Refuse a data set whose images are none that the networks take.

    Raises:
        UserError: They have other channels, or another depth.
    """
    from searcher.exceptions import UserError

    num = len(source.channels)
    if not kind.takes(num):
        raise UserError(
            f"--data {args.data}: images must have {kind.channels} channels, as those that the networks were trained "
            f"on, got {num} ({', '.join(source.channels)}); save those channels alone, or take other networks"
        )
    if source.dtype != "uint8" and kind.dtype == "uint8" and kind.normalisation.kind == "fixed":
        raise UserError(
            f"--data {args.data}: images must have 8 bit, as those that the networks were trained on, got 16 bit; "
            "convert them as those were, or see --normalisation percentile"
        )


def _check_annotations(store: "Store", args: argparse.Namespace, splits: dict[str, list[int]]) -> None:
    """Refuse annotations that are no label maps; say what is odd about single ones, as GlaS's test B has them.

    Raises:
        DataError: A whole split holds something else than label maps.
    """
    if args.labels_are:
        return
    from searcher.data_pipeline.annotations import annotation_facts, problem_of
    from searcher.data_pipeline.exceptions import DataError

    facts = annotation_facts(store)
    for name, indices in splits.items():
        found = problem_of(
            f"--data {args.data}, split {name}",
            [store.samples[i].id for i in indices],
            [facts[i] for i in indices],
        )
        if found is not None and found[1].is_sure and found[1].is_of_all:
            raise DataError(found[0])
        if found is not None:
            say_problem(found[0])
        if not any(facts[index].num_labels for index in indices):
            say_problem(f"split {name}: no image holds an object, so its figures say little")


def _say_brightened(store: "Store", normalisation: "Normalisation", splits: dict[str, list[int]]) -> None:
    from searcher.data_pipeline.normalisation import levels_of

    if not normalisation.brightens_dark or store.dtype != "uint8":
        return
    indices = [index for each in splits.values() for index in each]
    num_dark = sum(not levels_of(store.image(index), normalisation).changes_nothing for index in indices)
    if num_dark:
        say_problem(
            f"{num_dark} of {len(indices)} images are dark, 99.8% of the pixels below 64 of 255; brightened, since the "
            "network is from before images were normalised; --normalisation fixed takes them as they are"
        )


def _splits(store: "Store", wanted: str | None) -> dict[str, list[int]]:
    """Return the images of each split.

    Raises:
        UserError: The data set has no image of a split.
    """
    from searcher.data_pipeline.images import same_name
    from searcher.exceptions import UserError
    from searcher.training.dataset import VALIDATION

    there = {same_name(sample.split): sample.split for sample in store.samples}
    if wanted is None:
        others = [name for name in there.values() if name not in ("train", *VALIDATION)]
        wanted = "testA" if "testA" in there or not others else ",".join(others)
    names = dict.fromkeys(same_name(part.strip()) for part in wanted.split(","))
    found = {there.get(name, name): store.indices(there.get(name, name)) for name in names}
    for name, indices in found.items():
        if not indices:
            raise UserError(
                f"--splits {wanted}: must be splits of the data set, got {name or 'an empty name'}; it has "
                f"{', '.join(there.values())}"
            )
    return found
