"""`searcher probe`: how much memory the largest trials of a study take, and how many can share a GPU."""

import argparse
from typing import TYPE_CHECKING, Any

from searcher.api.probing import check_probed, measure_memory
from searcher.cli.options import Verbs, add_json, add_study, data_folder, data_view, overrides

if TYPE_CHECKING:
    from searcher.study.spec import StudySpec
    from searcher.training.memory_probe import MeasuredTrial

__all__ = ["add_parser"]

_DOES_NOT_FIT = 1
"""Exit code where not even a whole GPU is enough."""


def add_parser(verbs: Verbs) -> None:
    """Add the command and its options to the parser of `searcher`."""
    parser = verbs.add_parser(
        "probe",
        description="Makes a few steps of the largest configurations of the study's space on this machine's GPU, or "
        "where it has none on its CPU. Best while nothing else uses the GPU.",
        epilog="Exit code 0: measured. 1: a trial does not fit this machine, which is said.",
    )
    add_study(parser)
    add_json(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from searcher.study.catalog import load_study

    spec = load_study(args.study, overrides(args))
    check_probed(spec)

    from searcher.cli.terminal import progress_bar

    largest, measured = measure_memory(spec, data_folder(args), data_view(args), progress_bar)
    if args.json:
        from searcher.cli.terminal import print_json

        print_json(_record(spec, largest, measured))
    else:
        _print(spec, largest, measured)
    return 0 if largest.use.fits else _DOES_NOT_FIT


def _record(spec: "StudySpec", largest: "MeasuredTrial", measured: "list[MeasuredTrial]") -> dict[str, Any]:
    from searcher.training.memory_probe import MARGIN

    use = largest.use
    return {
        "study": spec.name,
        **vars(use),
        "params": largest.params,
        "margin": MARGIN,
        "share": use.share,
        "trials_per_gpu": use.num_trials if use.is_gpu else None,
        "resources.gpus": use.gpus if use.is_gpu and use.fits else None,
        "resources.memory_gib": use.memory_gib if use.fits else None,
        "measured": [{"params": each.params, **vars(each.use)} for each in measured],
    }


def _print(spec: "StudySpec", largest: "MeasuredTrial", measured: "list[MeasuredTrial]") -> None:
    from searcher.cli.tables import Parts, table
    from searcher.cli.terminal import console, params_texts
    from searcher.training.memory_probe import MARGIN, params_and_use

    def say(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    use = largest.use
    rows = [
        (
            _gib(each.use.peak_bytes) if each.use.fits else "too much",
            _gib(each.use.host_bytes),
            Parts(params_texts(each.params)),
        )
        for each in measured
    ]
    console.print(
        table([f">{'GPU' if use.is_gpu else 'memory'}, GiB", ">main memory, GiB", "parameters"], rows)
    )
    say(f"{spec.name}: {params_and_use(largest)}")
    if use.others_bytes:
        say(
            f"  other processes had {_gib(use.others_bytes)} GiB of that GPU meanwhile: measure again without them"
        )
    if not use.fits:
        say("  lower train.batch_size, augment.crop_px or the model's size, in the study file or with --set")
        return
    if use.is_gpu:
        trials = f"{use.num_trials} trials fit" if use.num_trials > 1 else "one trial fits"
        say(f"  with a margin of {MARGIN:.0%} a trial needs {use.share:.3f} of it, so {trials}:")
        say(f"    --set resources.gpus={use.gpus:g}")
    else:
        say("  no GPU here, so that main memory was measured alone")
    say("  main memory, with the same margin:")
    say(f"    --set resources.memory_gib={use.memory_gib:g}")


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.2f}"
