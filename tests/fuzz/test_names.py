"""Names of every Unicode class and length, as studies, files and databases, through every verb that takes them."""

import os
import shutil
from pathlib import Path

import pytest
from fuzzing import examples
from hypothesis import given
from hypothesis import strategies as st
from image_files import VALID
from new_database import new_database
from verb_server import VerbServer

_SEPARATORS = "/\0"
NAMES = st.one_of(
    st.text(st.characters(exclude_characters=_SEPARATORS, codec="utf-8"), min_size=1, max_size=60),
    st.text(
        st.sampled_from("a\u0301é\u202e\u200b\ufeff\n\r\t\x1b[]{}%?*:;,'\"=+-@ .~$`\\|<>&#İßﬁ中🧬"),
        min_size=1,
        max_size=30,
    ),
    st.integers(200, 260).map(lambda length: "x" * length),
    st.integers(60, 90).map(lambda length: "病" * length),
    st.binary(min_size=1, max_size=20).map(os.fsdecode).filter(lambda name: not set(name) & set(_SEPARATORS)),
).filter(lambda name: name not in {".", ".."})
"""Names that a file system takes, and some that are too long for it."""


@pytest.fixture(scope="session")
def study_database(verbs_folder: Path) -> str:
    """A database without studies."""
    path = str(verbs_folder / "names.db")
    new_database(path).close()
    return path


@examples(40)
@given(
    name=NAMES,
    verb=st.sampled_from(["status", "trials", "best", "logs", "stop", "export", "doctor", "gc", "evaluate"]),
)
def test_a_study_that_is_not_there(verbs: VerbServer, study_database: str, name: str, verb: str):
    more = {"export": ["--to", "nowhere"], "evaluate": ["--data", "missing"]}.get(verb, [])
    verbs.run(verb, f"--study={name}", f"--db={study_database}", *more).check(codes=(0, 2))


@examples(40)
@given(name=NAMES, verb=st.sampled_from(["status", "doctor", "dashboard"]))
def test_a_database_that_is_not_there(verbs: VerbServer, name: str, verb: str):
    verbs.run(verb, f"--db=missing/{name}").check(codes=(2,))


@examples(40)
@given(
    name=NAMES,
    line=st.sampled_from(
        [
            ["validate", "{}"],
            ["launch", "--study={}", "--data", "missing"],
            ["train", "--study={}", "--data", "missing"],
            ["data", "inspect", "--data={}"],
            ["data", "prepare", "--data={}"],
            ["predict", "{}", "x.png", "--to", "out"],
            ["predict", "missing", "{}", "--to", "out"],
            ["evaluate", "{}", "--data", "missing"],
            ["benchmark", "{}"],
            ["metrics", "--truth={}", "--prediction={}"],
            ["refine", "{}"],
            ["export", "{}", "--to", "nowhere"],
            ["launch", "--study", "unet-demo", "--set={}", "--data", "missing"],
            ["status", "--db=@{}"],
            ["launch", "--study", "unet-demo", "--data", "missing", "--storage={}"],
        ]
    ),
)
def test_a_path_that_is_not_there(verbs: VerbServer, name: str, line: list[str]):
    name = f"missing-{name}" if name.startswith("-") else name
    verbs.run(*(part.replace("{}", name) for part in line)).check(codes=(2,))


@examples(30)
@given(name=NAMES)
def test_a_study_of_that_name(verbs: VerbServer, verbs_folder: Path, name: str):
    quoted = "".join(f"\\U{ord(sign):08x}" for sign in name if not 0xD800 <= ord(sign) < 0xE000)
    (verbs_folder / "named.toml").write_text(f'[study]\nname = "{quoted}"\n[model]\nname = "unet"\n')
    verbs.run("validate", "named.toml").check(codes=(0, 2))


@examples(25)
@given(name=NAMES)
def test_an_image_of_that_name(verbs: VerbServer, verbs_folder: Path, tiny_bundle: Path, name: str):
    """Predicted or left out with its line; the image beside it is predicted whatever the name."""
    source, results = verbs_folder / "named", verbs_folder / "named-results"
    for folder in (source, results):
        shutil.rmtree(folder, ignore_errors=True)
    source.mkdir()
    try:
        (source / f"{name}.png").write_bytes(VALID["a.png"])
    except OSError:
        return  # the file system does not take it
    (source / "zzz.png").write_bytes(VALID["a.png"])
    verbs.run("data", "inspect", "--data", source).check(codes=(0, 2))
    verbs.run("predict", tiny_bundle, source, "--to", results).check(codes=(0, 1))
    assert (results / "zzz.labels.tif").exists()
