"""The model card: what somebody who was not there needs to know before using a bundle."""

from collections.abc import Sequence

from searcher.bundle.manifest import BundleManifest, MemberFacts

__all__ = ["model_card"]


def model_card(manifest: BundleManifest, pictures: Sequence[str]) -> str:
    """Return the model card of a bundle as Markdown.

    Args:
        manifest: The bundle's manifest, without the digest of the card itself.
        pictures: Names of image files in the bundle.
    """
    first = manifest.members[0]
    model = str(first.config["model"]["name"])
    several = len(manifest.members) > 1
    parts = [
        f"---\nlibrary_name: searcher\npipeline_tag: image-segmentation\ntags: [pathology, {model}]\n---",
        f"# {_plain(manifest.name)}",
        f"{'An ensemble of ' + str(len(manifest.members)) + ' networks' if several else 'A network'} ({model}) that "
        "outlines glands or cells in microscope images: every object gets a number of its own.",
        *(f"![{_alt(name)}]({name})" for name in pictures),
        "## Use",
        "    searcher predict THIS_FOLDER IMAGE… --to DIR       # label maps, overlays, a table of every object\n"
        "    searcher evaluate THIS_FOLDER --data DIR --splits testA   # its metrics on annotated images",
        f"{_images(manifest)}{_pixel_size(manifest)}. {_classes(manifest)}"
        + (
            f"It looks at tiles of {manifest.tile_px} px with an overlap of {manifest.tile_overlap_px} px. "
            if manifest.tile_px
            else "It was validated on whole images. "
        )
        + ("Each prediction is the mean over 8 turned and mirrored views." if manifest.tta else "")
        + _onnx(manifest),
        "## Trained on",
        f"{_plain(manifest.data.name)} (fingerprint {', '.join(each[:12] for each in manifest.data.fingerprints)}). "
        f"Licence of the data: {_plain(manifest.data.licence)}",
        "## How good",
        *(_member(number, member) for number, member in enumerate(manifest.members, start=1)),
        "These figures are of the validation images that chose the epoch and tuned the post-processing: a little "
        "better than the truth. Measure it on images that nothing was chosen by, and on your own, before you rely on "
        "it.",
        "It is for research. It is no medical device, and knows nothing but what its training images showed: other "
        "stains, scanners, organs or magnifications need a look first.",
        "## Made of",
        "Everything that decided the training is in `bundle.json`: configuration, parameters that were searched, the "
        "metrics of every epoch, the studies before, package versions, and the SHA-256 of every file, which `searcher` "
        "checks before it opens one. Weights are safetensors: nothing is unpickled.",
        *_plugins(manifest),
        f"Written {manifest.created_at:%Y-%m-%d} by searcher {manifest.versions['searcher']}.",
    ]
    return "\n\n".join(parts) + "\n"


def _member(number: int, member: MemberFacts) -> str:
    of = "a checkpoint" if member.study is None else f"study `{_plain(member.study)}`, trial {member.trial}"
    tuned = ""
    if member.tuned is not None:
        tuned = (
            f"; with tuned post-processing {member.tuned['metric']} {member.tuned['value']:.4f} on "
            f"{member.tuned['num_images']} images"
        )
    before = "".join(
        f"; {ancestor.how} of `{_plain(ancestor.study)}`, trial {', '.join(map(str, ancestor.trials)) or 'unknown'}"
        for ancestor in member.lineage
    )
    chosen = "".join(f"\n   - `{key}` = {value}" for key, value in member.params.items())
    return (
        f"{number}. {of}, epoch {member.epoch}: {member.objective} {member.value:.4f} on validation images"
        f"{tuned}{before}.{chosen}"
    )


def _plugins(manifest: BundleManifest) -> list[str]:
    """Return the lines of what has to be installed in addition to searcher."""
    if not manifest.plugins:
        return []
    named = ", ".join(f"`{_plain(f'{each.name} {each.version}'.strip())}`" for each in manifest.plugins)
    return [f"It needs, beside searcher: {named}. Install it, or give its file by `--plugin`."]


def _pixel_size(manifest: BundleManifest) -> str:
    if manifest.pixel_size_um is None:
        return ", at the magnification of the training images (nobody said which)"
    return (
        f" of {manifest.pixel_size_um:g} µm a pixel; others are resized to it where their pixel size is known"
    )


def _onnx(manifest: BundleManifest) -> str:
    if manifest.onnx is None:
        return ""
    onnx = manifest.onnx
    return (
        f" `{onnx.file}` is the same network for ONNX Runtime (opset {onnx.opset}): images uint8[B, {onnx.height}, "
        f"{onnx.width}, {manifest.channels}] to maps float32[B, C, H, W], before post-processing"
        f"{_onnx_classes(manifest)}; it differs from PyTorch by at most {onnx.max_difference:.1e} "
        f"({', '.join(onnx.compared_on)})." + _in_numpy(manifest)
    )


def _onnx_classes(manifest: BundleManifest) -> str:
    num = len(manifest.class_names)
    return f", and classes float32[B, {num}, H, W], a pixel's probability of each class" if num else ""


def _classes(manifest: BundleManifest) -> str:
    """Return the sentence about classes, empty where none were learned."""
    if not manifest.class_names:
        return ""
    named = ", ".join(f"{number} {_plain(name)}" for number, name in enumerate(manifest.class_names, start=1))
    return f"Of every object it says which class it is of: {named}. "


def _images(manifest: BundleManifest) -> str:
    kind = manifest.kind
    if kind.is_colour:
        return "Images are 8 bit RGB"
    return f"Images have {kind} (see docs/bundles.md)"


def _in_numpy(manifest: BundleManifest) -> str:
    """Return the lines that make an image what the ONNX network takes; nothing for 8 bit RGB, which is that."""
    kind = manifest.kind
    if kind.is_colour:
        return ""
    if kind.normalisation.kind == "fixed":
        steps = ["x = image if image.dtype == np.uint8 else np.rint(image / 257).astype(np.uint8)"]
    else:
        how = kind.normalisation
        steps = [
            f"low, high = np.percentile(image, ({how.low_percentile:g}, {how.high_percentile:g}), axis=(0, 1), "
            'method="inverted_cdf").astype(float)',
            "high = np.where(high > low, high, image.max(axis=(0, 1)))",
            "width = np.where(high > low, high - low, np.inf)",
            "x = np.rint((image - low) * 255 / width).clip(0, 255).astype(np.uint8)",
        ]
    return " Its images are normalised as a whole, before tiles are cut:\n\n" + "\n".join(
        f"    {step}" for step in (f"# image: [H, W, {kind.channels}], as the file has it", *steps)
    )


def _alt(name: str) -> str:
    return name.rpartition(".")[0].replace("-", " ")


def _plain(text: str) -> str:
    """Return a text whose signs mean nothing in Markdown or HTML."""
    return "".join(f"&#{ord(sign)};" if sign in "<>&`*_[]|\\" else sign for sign in " ".join(text.split()))
