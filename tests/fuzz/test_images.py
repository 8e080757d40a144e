"""Images and label maps with damaged bytes, odd types and odd sizes: taken, or one line that names the file."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from fuzzing import examples
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from image_files import VALID
from PIL import Image
from verb_server import VerbServer


@st.composite
def damaged(draw: st.DrawFn) -> tuple[str, bytes]:
    """A file of a known kind in which some bytes are others, mostly of the header, or the end is missing."""
    name = draw(st.sampled_from(sorted(VALID)))
    data = bytearray(VALID[name])
    for _ in range(draw(st.integers(1, 4))):
        near = draw(st.sampled_from([64, 256, len(data)]))
        at = draw(st.integers(0, min(near, len(data)) - 1))
        data[at] = draw(st.one_of(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]), st.integers(0, 255)))
    if draw(st.integers(0, 4)) == 0:
        del data[draw(st.integers(0, len(data) - 1)) :]
    return name, bytes(data)


@pytest.fixture(scope="session")
def data_folder(verbs_folder: Path) -> Path:
    """A data set of one image, to which a damaged one is added."""
    for kind, content in (("images", VALID["a.png"]), ("labels", VALID["b.png"])):
        (verbs_folder / "data" / kind).mkdir(parents=True)
        (verbs_folder / "data" / kind / "good.png").write_bytes(content)
    return verbs_folder / "data"


@examples(50)
@given(file=damaged(), as_label=st.booleans())
def test_a_damaged_file_of_a_data_set(
    verbs: VerbServer, data_folder: Path, file: tuple[str, bytes], as_label: bool
):
    name, content = file
    suffix = name.partition(".")[2]
    image, label = (
        data_folder / "images" / f"odd.{suffix}",
        data_folder / "labels" / f"odd.{suffix if as_label else 'png'}",
    )
    image.write_bytes(VALID[name] if as_label else content)
    label.write_bytes(content if as_label else VALID["b.png"])
    try:
        verbs.run("data", "inspect", "--data", data_folder).check(codes=(0, 2))
    finally:
        image.unlink()
        label.unlink()


@examples(40)
@given(file=damaged())
def test_a_damaged_image_is_left_out_by_predict(
    verbs: VerbServer, verbs_folder: Path, tiny_bundle: Path, file: tuple[str, bytes]
):
    """Whatever it is, the image beside it is predicted."""
    name, content = file
    source, results = verbs_folder / "new", verbs_folder / "results"
    for folder in (source, results):
        shutil.rmtree(folder, ignore_errors=True)
    source.mkdir()
    (source / name).write_bytes(content)
    (source / "zzz.png").write_bytes(VALID["a.png"])
    verbs.run("predict", tiny_bundle, source, "--to", results).check(codes=(0, 1))
    assert (results / "zzz.labels.tif").exists()


@examples(50)
@given(
    labels=arrays.arrays(
        st.sampled_from(
            [np.uint8, np.uint16, np.int16, np.int32, np.uint32, np.int64, np.float32, np.float64, bool]
        ),
        arrays.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=9),
    ),
    ending=st.sampled_from(["npy", "tif", "png"]),
)
def test_any_array_as_label_map(verbs: VerbServer, verbs_folder: Path, labels: np.ndarray, ending: str):
    """Compared with itself: refused, or every object found."""
    for kind in ("truth", "prediction"):
        folder = verbs_folder / kind
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            if ending == "npy":
                np.save(folder / "x.npy", labels)
            elif ending == "tif":
                tifffile.imwrite(folder / "x.tif", labels)
            else:
                Image.fromarray(labels).save(folder / "x.png")
        except (TypeError, ValueError, IndexError, OSError, AttributeError, SystemError):
            return  # the writer cannot hold it
    result = verbs_folder / "result.json"
    result.unlink(missing_ok=True)
    outcome = verbs.run(
        "metrics",
        "--truth",
        verbs_folder / "truth",
        "--prediction",
        verbs_folder / "prediction",
        "--json",
        result,
    )
    outcome.check(codes=(0, 2))
    if outcome.code == 0 and labels.any():
        text = result.read_text()
        assert "NaN" not in text
        assert "Infinity" not in text
        assert json.loads(text)
