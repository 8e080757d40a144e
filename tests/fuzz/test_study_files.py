"""Study files and `--set` as people and programs spoil them: one line and exit code 2, or a valid study."""

import string
from pathlib import Path

from fuzzing import examples
from hypothesis import example, given
from hypothesis import strategies as st
from verb_server import VerbServer

from searcher import studies

SHIPPED = [
    (Path(studies.__file__).parent / f"{name}.toml").read_text()
    for name in ("unet-demo", "unet-broad", "maskrcnn-lite")
]

ODD_VALUES = st.one_of(
    st.sampled_from(
        [
            "inf",
            "-inf",
            "nan",
            "1e400",
            "-1e400",
            "0",
            "-1",
            "1e-400",
            "9" * 400,
            "9" * 6000,
            "0x7fffffffffffffff",
            "1979-05-27",
            "1979-05-27T07:32:00Z",
            "07:32:00",
            "true",
            "[]",
            "{}",
            "[1]",
            '["a"]',
            "{ low = 1 }",
            '""',
            "{ low = 1e-4, high = inf }",
            "{ choices = [inf, 1] }",
            "{ choices = [] }",
            "{ choices = [[1], {a = 1}] }",
            "{ low = 5, high = 5 }",
            "{ low = 0, high = 1, log = true }",
            "{ low = 1, high = 1e308 }",
            "'\\u001b[31m'",
            '"\\u001b[31mred"',
            '"\\u202e"',
            '"[/red]"',
            '"\\u0000"',
            "[" * 500 + "]" * 500,
            "1e11",
            "1e15",
            "1.0000000001",
            "{ low = 1, high = 100000000000 }",
            "{ low = 1, high = 10, step = 1e-300 }",
            "-0.0",
            "1_0",
            "0b11",
        ]
    ),
    st.integers().map(str),
    st.floats().map(str),
    st.text(max_size=20).map(lambda text: repr(text)),
)
KEYS = st.one_of(
    st.sampled_from(
        [
            "study.name",
            "study.trials",
            "study.also",
            "study.objective",
            "optimizer.lr",
            "optimizer.name",
            "train.epochs",
            "model.base_channels",
            "model.depth",
            "data.synthetic_images",
            "data.samples_per_epoch",
            "augment.crop_px",
            "search.reduction_factor",
            "scheduler.reduction_factor",
            "resources.memory_gib",
            "resources.cpus",
            "train.batch_size",
        ]
    ),
    st.text(string.ascii_letters + string.digits + "._-\"' ", max_size=30),
)


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """A shipped study file with some lines changed and some bytes damaged."""
    lines = draw(st.sampled_from(SHIPPED)).splitlines()
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(lines) - 1))
        change = draw(st.sampled_from(["value", "delete", "twice", "swap", "insert"]))
        if change == "value" and "=" in lines[at]:
            lines[at] = f"{lines[at].partition('=')[0]}= {draw(ODD_VALUES)}"
        elif change == "delete":
            lines[at] = ""
        elif change == "twice":
            lines.insert(at, lines[at])
        elif change == "swap":
            other = draw(st.integers(0, len(lines) - 1))
            lines[at], lines[other] = lines[other], lines[at]
        else:
            lines.insert(at, draw(st.text(max_size=40)))
    data = bytearray("\n".join(lines).encode(errors="surrogatepass"))
    for _ in range(draw(st.integers(0, 3))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


@examples(40)
@given(content=spoilt())
def test_a_spoilt_study_file_is_one_line(verbs: VerbServer, verbs_folder: Path, content: bytes):
    path = verbs_folder / "study.toml"
    path.write_bytes(content)
    verbs.run("validate", path).check(codes=(0, 2))


@examples(40)
@given(
    content=st.one_of(
        st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode(errors="surrogatepass"))
    )
)
def test_any_bytes_are_one_line(verbs: VerbServer, verbs_folder: Path, content: bytes):
    path = verbs_folder / "bytes.toml"
    path.write_bytes(content)
    verbs.run("validate", path).check(codes=(2,))


@examples(40)
@example(key="", value="[" * 1000)
@given(key=KEYS, value=ODD_VALUES)
def test_any_set_is_one_line(verbs: VerbServer, key: str, value: str):
    """The data folder that is missing ends what would else begin to train."""
    verbs.run("launch", "--study", "unet-demo", f"--set={key}={value}", "--data", "missing").check(codes=(2,))
    verbs.run("train", "--study", "unet-demo", f"--set={key}={value}", "--data", "missing").check(codes=(2,))
