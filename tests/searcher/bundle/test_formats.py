"""Networks are exported in formats of plug-ins too, alone or beside a bundle, whole or not at all."""

import hashlib
import json

import pytest
import torch
from plugged import plugged_in

from searcher.bundle.load import load_bundle
from searcher.exceptions import UserError
from searcher.plugins import PluginError
from searcher.testing import check_export

STATES = """
    import torch
    from searcher.bundle.formats import register_export
    from searcher.exceptions import UserError

    def one_alone(models):
        if len(models) > 1:
            raise UserError("--as states: must be given one network, got several; export them one by one")

    @register_export("states", check=one_alone)
    def states(networks, folder):
        torch.save(networks.models[0].state_dict(), folder / "network.pt")
        return {"side_px": networks.size_px}
    """


@pytest.fixture(scope="module", autouse=True)
def _plugged(tmp_path_factory):
    with plugged_in(tmp_path_factory.mktemp("plugin"), STATES, "states.py"):
        yield


def test_a_format_alone_is_a_folder_that_says_what_it_holds(write, new_member, data_facts, tmp_path):
    member = new_member()
    written = write(tmp_path / "s", "n", [member], formats=("states",), data=data_facts, size_px=64)
    said = json.loads((tmp_path / "s" / "export.json").read_text())
    content = (tmp_path / "s" / "network.pt").read_bytes()
    assert said["formats"] == {"states": {"files": ["network.pt"], "facts": {"side_px": 64}}}
    assert said["files"] == {
        "network.pt": {"sha256": hashlib.sha256(content).hexdigest(), "num_bytes": len(content)}
    }
    assert said["networks"][0]["checkpoint_sha256"] == "c" * 64
    assert said["networks"][0]["config"] == member.network.config.to_dict()
    assert written.sha256 == hashlib.sha256((tmp_path / "s" / "export.json").read_bytes()).hexdigest()
    loaded = torch.load(tmp_path / "s" / "network.pt", weights_only=True)
    assert all(torch.equal(loaded[key], value) for key, value in member.network.weights.items())
    with pytest.raises(UserError, match="add --force to replace it"):
        write(tmp_path / "s", "n", [member], formats=("states",), data=data_facts)
    write(tmp_path / "s", "n", [member], data=data_facts, force=True)
    assert load_bundle(tmp_path / "s").manifest.formats == {}


def test_beside_a_bundle_it_is_listed_with_its_digest(write, new_member, data_facts, tmp_path):
    write(tmp_path / "b", "n", [new_member()], formats=("bundle", "states"), data=data_facts, size_px=64)
    manifest = load_bundle(tmp_path / "b").manifest
    assert manifest.formats["states"].files == ("network.pt",)
    assert manifest.formats["states"].facts == {"side_px": 64}
    (tmp_path / "b" / "network.pt").write_bytes(b"other")
    with pytest.raises(UserError, match=r"network\.pt: must have"):
        load_bundle(tmp_path / "b")


@pytest.mark.parametrize(
    ("formats", "rule"),
    [
        (("help",), r"--as: must be one of bundle, onnx, states, got 'help'; choose one of them"),
        (("bundle", "bundle"), "--as: must name formats, each once, got bundle, bundle"),
        ((), "--as: must name formats, each once, got none"),
    ],
)
def test_what_is_no_format_is_one_line(write, new_member, data_facts, tmp_path, formats, rule):
    with pytest.raises(UserError, match=rule):
        write(tmp_path / "s", "n", [new_member()], formats=formats, data=data_facts)
    assert list(tmp_path.iterdir()) == []


def in_a_folder(_networks, folder):
    (folder / "sub").mkdir()


def as_manifest(_networks, folder):
    (folder / "bundle.json").write_text("{}")


def no_json(_networks, folder):
    (folder / "a").write_text("a")
    return {"a": object()}


def changes(networks, folder):
    (folder / "a").write_text("a")
    with torch.no_grad():
        next(networks.models[0].parameters()).add_(1)


@pytest.mark.parametrize(
    ("build", "rule"),
    [
        (in_a_folder, "theirs 1.0 must write plain files into the folder, got sub, which is none"),
        (lambda _networks, _folder: None, "must write plain files into the folder, got nothing"),
        (as_manifest, "theirs 1.0 must leave bundle.json to searcher; name its file otherwise"),
        (no_json, "theirs 1.0 must write it, got TypeError: Object of type object is not JSON"),
        (
            lambda networks, _: networks.nothing,
            "got AttributeError: 'Networks' object has no attribute 'nothing'",
        ),
    ],
)
def test_a_format_that_breaks_its_promise_is_named_and_leaves_nothing(
    write, new_member, data_facts, tmp_path, new_format, build, rule
):
    new_format("bad", build)
    with pytest.raises(PluginError, match="--as bad: .*" + rule):
        write(tmp_path / "s", "n", [new_member()], formats=("bad", "bundle"), data=data_facts)
    assert list(tmp_path.iterdir()) == []


def test_the_check_tells_a_good_format_from_a_bad_one(new_format):
    check_export("states")
    check_export("bundle", num_networks=2)
    with pytest.raises(UserError, match="must be given one network, got several"):
        check_export("states", num_networks=2)
    new_format("changes", changes)
    with pytest.raises(AssertionError, match="must leave the weights as they are, got others in"):
        check_export("changes")
