"""`searcher export`: trained networks as a bundle, which needs neither database nor cluster nor training data."""

import argparse
from pathlib import Path

from searcher.cli.members import add_members, networks_named
from searcher.cli.options import Verbs, add_view, data_folder, data_view, positive_float, positive_int
from searcher.study.objectives import TUNING_TARGETS, metrics_of_plugins

__all__ = ["add_parser"]

_ONNX_SIZE_PX = 512


def add_parser(verbs: Verbs) -> None:
    """Add the command and its options to the parser of `searcher`."""
    parser = verbs.add_parser("export")
    add_members(parser, bundles=False)
    parser.add_argument(
        "--to", type=Path, required=True, metavar="DIR", help="the folder to write, which must be new"
    )
    parser.add_argument("--force", action="store_true", help="replace an export that is there")
    parser.add_argument(
        "--as",
        action="append",
        dest="formats",
        metavar="NAME",
        help="write this format: bundle (the default), onnx, or a plug-in's; may be repeated, beside a bundle they lie "
        "in its folder; `searcher plugins` lists them",
    )
    parser.add_argument("--name", metavar="NAME", help="what to call it in tables; default: study and trial")
    parser.add_argument(
        "--onnx",
        action="store_true",
        help="add the network (U-Net) for ONNX Runtime, compared with PyTorch",
    )
    parser.add_argument(
        "--onnx-size",
        type=positive_int,
        default=_ONNX_SIZE_PX,
        metavar="PX",
        help=f"side of the images that the ONNX network takes; default {_ONNX_SIZE_PX}",
    )
    parser.add_argument(
        "--example",
        type=Path,
        metavar="IMAGE",
        help="put this image with its outlined objects on the model card; mind its licence",
    )
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="where the training data are now, to state what they are; default: as the study says",
    )
    parser.add_argument(
        "--tune",
        nargs="?",
        const="objective",
        metavar="METRIC",
        help="tune post-processing anew for the networks together, each asked about the images it was validated on: "
        f"for what they were tuned for, or one of {', '.join(TUNING_TARGETS)}, or a plug-in's metric; "
        "needs the training data",
    )
    add_view(parser)
    parser.add_argument(
        "--data-licence", metavar="TEXT", help="licence of the training data; default: if known"
    )
    parser.add_argument(
        "--pixel-size-um",
        type=positive_float,
        metavar="X",
        help="side of a pixel of the training images in micrometres; default: if known",
    )
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from searcher.api.exporting import ExportWish, export_networks
    from searcher.api.networks import find_members
    from searcher.bundle.folder import check_target
    from searcher.bundle.formats import BUNDLE, check_formats
    from searcher.cli.terminal import console, progress_bar, tuning_text

    formats = list(args.formats or [BUNDLE])
    if args.onnx and "onnx" not in formats:
        formats.append("onnx")
    check_formats(formats)
    check_target(args.to, force=args.force)
    _check_tuning_target(args.tune)
    wish = ExportWish(
        to=args.to,
        force=args.force,
        name=args.name,
        formats=tuple(formats),
        onnx_size=args.onnx_size,
        example=args.example,
        data=data_folder(args),
        view=data_view(args),
        tune=args.tune,
        data_licence=args.data_licence,
        pixel_size_um=args.pixel_size_um,
    )
    found = find_members(networks_named(args))
    exported = export_networks(found, wish, progress_bar)
    if exported.tuned is not None:
        console.print(tuning_text(exported.tuned.to_dict()), markup=False, soft_wrap=True)
    written = exported.written
    networks = "1 network" if len(found.members) == 1 else f"{len(found.members)} networks, averaged"
    num_bytes = sum(facts.num_bytes for facts in written.files.values())
    what = "" if formats == [BUNDLE] else f" ({', '.join(formats)})"
    console.print(
        f"{args.to}: {exported.name}, {networks}, {num_bytes / 1e6:.1f} MB in {len(written.files) + 1} files{what}",
        markup=False,
        soft_wrap=True,
    )
    if (onnx := written.formats.get("onnx")) is not None:
        console.print(
            f"{onnx['file']}: differs from PyTorch by at most {onnx['max_difference']:.1e} on "
            f"{', '.join(onnx['compared_on'])}",
            markup=False,
        )
    if written.manifest is not None:
        console.print(f"  searcher predict {args.to} IMAGE… --to DIR", markup=False, soft_wrap=True)
    return 0


def _check_tuning_target(metric: str | None) -> None:
    """Check what `--tune` says.

    Raises:
        UserError: Nobody knows it.
    """
    from searcher.exceptions import UserError

    known = ("objective", *TUNING_TARGETS, *metrics_of_plugins())
    if metric is not None and metric not in known:
        raise UserError(f"--tune: must be one of {', '.join(known)}, got {metric!r}; choose one of them")
