"""Bundles and checkpoints from elsewhere, with wrong values, damaged bytes and false sizes: opened, or one line."""

import copy
import hashlib
import json
import shutil
import struct

import pytest
import torch
from fuzzing import examples
from hypothesis import example, given
from hypothesis import strategies as st
from trained_runs import folder_of

from searcher.bundle.load import load_bundle
from searcher.cli.main import main
from searcher.exceptions import UserError


@pytest.fixture(scope="module")
def run(tiny_runs):
    return folder_of(tiny_runs, "tta")


@pytest.fixture(scope="module")
def content(run):
    """What the checkpoint holds; not to be written into."""
    return torch.load(run / "best.pt", weights_only=True)


@pytest.fixture(scope="module")
def bundle(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / "b"
    assert main(["export", str(run), "--to", str(folder)]) == 0
    return folder


def nested(depth: int) -> list:
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


PLAIN = [
    None, True, -1, 0, 3, 10**30, 1 << 62, 1e308, "", "x", "../../x", "\x1b[31m\n", "a" * 10_000, [], {}, [1],
    {"a": {}}, nested(50),
]  # fmt: skip
TENSORS = [
    torch.full((3,), float("nan")), torch.zeros(0), torch.zeros(1).expand(1 << 40),
    torch.zeros(2, dtype=torch.complex64), torch.zeros(2, 2).to_sparse(),
    torch.zeros(1).expand(1 << 20, 1 << 30), float("nan"), float("inf"),
]  # fmt: skip


def places(value: object, depth: int = 4) -> list[tuple]:
    """Return the way to each part of a nested value."""
    found: list[tuple] = [()]
    if depth and isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        found += [(key, *rest) for key, part in items for rest in places(part, depth - 1)]
    return found


def changed(value: object, place: tuple, new: object) -> object:
    """Return a nested value with one part changed, or left out where `new` is `...`."""
    if not place:
        return new
    parts = dict(value) if isinstance(value, dict) else list(value)
    if len(place) == 1 and new is ...:
        del parts[place[0]]
    else:
        parts[place[0]] = changed(parts[place[0]], place[1:], new)
    return tuple(parts) if isinstance(value, tuple) else parts


class Drawn:
    """Gives fixed values in place of drawn ones."""

    def __init__(self, *values: object) -> None:
        self._values = iter(values)

    def draw(self, _strategy: object) -> object:
        return next(self._values)


def one_line(capsys, code: int) -> None:
    error = capsys.readouterr().err
    assert code in (0, 2), error
    if code == 2:
        assert error.count("\n") == 1, error
        assert len(error) < 1500


@examples(30)
@example(data=Drawn(("format",), "\x1b[31m\n"))
@given(data=st.data())
def test_checkpoints_with_wrong_values(content, tmp_path, capsys, data):
    place = data.draw(st.sampled_from(places(content)[1:]))
    new = data.draw(st.sampled_from([..., *PLAIN, *TENSORS]))
    torch.save(changed(content, place, new), tmp_path / "best.pt")
    to = tmp_path / "b"
    one_line(capsys, code := main(["export", str(tmp_path / "best.pt"), "--to", str(to)]))
    if code == 0:
        load_bundle(to).predictor(device=torch.device("cpu"))
        shutil.rmtree(to)
    assert not to.exists()


@examples(40)
@given(data=st.data())
def test_checkpoints_with_damaged_bytes(run, tmp_path, capsys, data):
    path = tmp_path / "best.pt"
    path.write_bytes(damaged((run / "best.pt").read_bytes(), data))
    to = tmp_path / "b"
    one_line(capsys, main(["export", str(path), "--to", str(to)]))
    shutil.rmtree(to, ignore_errors=True)


def damaged(content: bytes, data) -> bytes:
    """Return bytes with some changed, cut off or added."""
    how = data.draw(st.sampled_from(["flip", "cut", "add", "size"]))
    at = data.draw(
        st.integers(0, len(content) - 1)
        | st.integers(0, 200)
        | st.integers(len(content) - 300, len(content) - 1)
    )
    if how == "flip":
        return content[:at] + bytes([content[at] ^ (1 << data.draw(st.integers(0, 7)))]) + content[at + 1 :]
    if how == "cut":
        return content[:at]
    if how == "size":
        huge = struct.pack("<Q", data.draw(st.sampled_from([0, 1, 1 << 31, 1 << 40, (1 << 64) - 1])))
        return content[:at] + huge + content[at + 8 :]
    return content[:at] + data.draw(st.binary(min_size=1, max_size=20)) + content[at:]


@pytest.fixture
def another(bundle, tmp_path):
    shutil.copytree(bundle, tmp_path / "another")
    return tmp_path / "another"


def opens_or_says_why(folder) -> None:
    said = str(folder)
    try:
        load_bundle(folder).predictor(device=torch.device("cpu"))
    except UserError as error:
        said = str(error)
    assert "\n" not in said
    assert said.startswith(str(folder))
    assert len(said) < 1500


@examples(100)
@example(data=Drawn(("schema_version",), "\x1b[31m\n"))
@given(data=st.data())
def test_manifests_with_wrong_values(bundle, another, data):
    content = json.loads((bundle / "bundle.json").read_text())
    place = data.draw(st.sampled_from(places(content, 6)))
    new = data.draw(st.sampled_from([*([...] if place else []), *PLAIN, float("nan"), float("-inf")]))
    (another / "bundle.json").write_text(json.dumps(changed(content, place, new)))
    opens_or_says_why(another)


@examples(60)
@given(data=st.data())
def test_weights_with_damaged_bytes_that_the_manifest_confirms(bundle, another, data):
    weights = damaged((bundle / "weights.safetensors").read_bytes(), data)
    confirmed(bundle, another, weights)
    opens_or_says_why(another)


def confirmed(bundle, another, weights: bytes) -> None:
    """Write weights, and a manifest that says that they are right."""
    (another / "weights.safetensors").write_bytes(weights)
    content = json.loads((bundle / "bundle.json").read_text())
    content["files"]["weights.safetensors"] = {
        "sha256": hashlib.sha256(weights).hexdigest(), "num_bytes": len(weights)
    }  # fmt: skip
    (another / "bundle.json").write_text(json.dumps(content))


@pytest.mark.parametrize("what", ["weights", "bundle.json", "checkpoint"])
def test_sparse_files_of_200_gb_are_refused_unread(bundle, another, run, tmp_path, capsys, what):
    num_bytes = 200 << 30
    if what == "checkpoint":
        path = tmp_path / "best.pt"
        shutil.copy(run / "best.pt", path)
    else:
        path = another / {"weights": "weights.safetensors"}.get(what, what)
    if what == "weights":
        content = json.loads((bundle / "bundle.json").read_text())
        content["files"][path.name]["num_bytes"] = num_bytes
        (another / "bundle.json").write_text(json.dumps(content))
    with path.open("r+b") as file:
        file.truncate(num_bytes)
    if what == "checkpoint":
        one_line(capsys, code := main(["export", str(path), "--to", str(tmp_path / "b")]))
    else:
        one_line(capsys, code := main(["evaluate", str(another), "--data", str(run)]))
    assert code == 2


@pytest.mark.parametrize("where", ["linked", "gone", "folder", "of another"])
def test_a_member_of_an_ensemble_that_is_none(run, bundle, tmp_path, where):
    folder = tmp_path / "ensemble"
    assert main(["export", str(run), str(run), "--to", str(folder)]) == 0
    file = folder / "weights-2.safetensors"
    file.unlink()
    if where == "linked":
        file.symlink_to(folder / "weights-1.safetensors")
    elif where == "folder":
        file.mkdir()
    elif where == "of another":
        file.write_bytes(b"x" * 50)
    with pytest.raises(UserError, match=r"weights-2.safetensors: must"):
        load_bundle(folder)


def test_weights_that_are_no_numbers_are_not_exported(run, tmp_path, capsys):
    content = torch.load(run / "best.pt", weights_only=True)
    for part in ("model", "ema"):
        content = copy.deepcopy(content)
        weights = content["ema"]["weights"] if part == "ema" and content["ema"] else content["model"]
        name = next(name for name, each in weights.items() if each.ndim == 4)
        weights[name][0, 0, 0, 0] = float("nan")
    torch.save(content, tmp_path / "best.pt")
    assert main(["export", str(tmp_path / "best.pt"), "--to", str(tmp_path / "b")]) == 2
    assert f"{name} must have finite numbers, got NaN or infinity" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()
