"""Bundles: what is written is what is opened, and nothing else is opened."""

import hashlib
import json
import os
import pickle
import stat

import numpy as np
import pytest
import torch
from safetensors.torch import save

from searcher.bundle.load import is_bundle, load_bundle
from searcher.data_pipeline.datasets import SyntheticGlands
from searcher.exceptions import UserError
from searcher.inference.trained import TrainedNetwork, predictor_of
from searcher.models.registry import names
from searcher.models.values import Detections

CPU = torch.device("cpu")


@pytest.fixture
def bundle(write, tmp_path, new_member, data_facts):
    write(tmp_path / "b", "a name", [new_member(threshold=0.25)], data=data_facts, pixel_size_um=0.5)
    return tmp_path / "b"


def image():
    return SyntheticGlands(num_images=1, size_px=112, seed=3).read(0)[0]


def test_an_opened_bundle_predicts_what_its_network_does(bundle, new_member):
    original = new_member(threshold=0.25).network
    expected = predictor_of([original], [original.model(CPU)], device=CPU)
    opened = load_bundle(bundle)
    actual = opened.predictor(device=CPU)
    assert actual.tta
    assert expected.tta
    np.testing.assert_array_equal(actual.see(image()), expected.see(image()))
    assert actual.postprocess == expected.postprocess
    assert actual.postprocess.threshold == 0.25
    one_view = opened.predictor(device=CPU, tta=False)
    assert not np.array_equal(one_view.see(image()), expected.see(image()))


@pytest.mark.parametrize("name", names())
def test_every_model_comes_back_from_a_bundle(write, name, tmp_path, new_member, data_facts):
    original = new_member(name=name).network
    write(tmp_path / "b", name, [new_member(name=name)], data=data_facts)
    expected = predictor_of([original], [original.model(CPU)], device=CPU).see(image())
    actual = load_bundle(tmp_path / "b").predictor(device=CPU).see(image())
    parts = zip(actual, expected, strict=True) if isinstance(expected, Detections) else [(actual, expected)]
    for here, there in parts:
        np.testing.assert_array_equal(here, there)
    assert len(getattr(expected, "scores", (1,))) > 0, "nothing was compared"


def test_it_says_where_it_comes_from(bundle):
    opened = load_bundle(bundle)
    assert (opened.name, opened.pixel_size_um) == ("a name", 0.5)
    [facts] = [member.facts for member in opened.members]
    assert (facts.study, facts.trial, facts.epoch, facts.value) == ("s", 0, 2, 0.5)
    assert facts.history == {1: {"object_dice": 0.25}, 2: {"object_dice": 0.5}}
    for name, written in opened.manifest.files.items():
        content = (bundle / name).read_bytes()
        assert (written.sha256, written.num_bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    assert {path.name for path in bundle.iterdir()} == {*opened.manifest.files, "bundle.json"}
    assert opened.manifest_sha256 == hashlib.sha256((bundle / "bundle.json").read_bytes()).hexdigest()
    card = (bundle / "README.md").read_text()
    assert "object_dice 0.7500 on 3 images" in card
    assert "Licence of the data: none needed" in card


def test_an_ensemble_is_one_bundle(write, tmp_path, new_member, data_facts):
    members = [new_member(number, 2, seed=number, threshold=0.25 + 0.25 * number) for number in range(2)]
    write(tmp_path / "b", "two", members, data=data_facts)
    opened = load_bundle(tmp_path / "b")
    maps = opened.predictor(device=CPU, tta=False).see(image())
    each = [
        predictor_of([one.network], [one.network.model(CPU)], device=CPU, tta=False).see(image())
        for one in members
    ]
    np.testing.assert_allclose(maps, (each[0] + each[1]) / 2, atol=1e-6)
    assert opened.manifest.postprocess.threshold == 0.25, (
        "of an even number, the lower of the two in the middle"
    )


def test_members_whose_maps_differ_are_no_ensemble(write, tmp_path, new_member, data_facts):
    members = [new_member(0, 2), new_member(1, 2, head="binary")]
    with pytest.raises(UserError, match="maps say the same"):
        write(tmp_path / "b", "two", members, data=data_facts)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["weights.safetensors", "README.md"])
@pytest.mark.parametrize("damage", ["flipped bit", "cut short", "deleted", "link"])
def test_a_damaged_file_is_told(bundle, name, damage, tmp_path):
    file = bundle / name
    content = bytearray(file.read_bytes())
    if damage == "flipped bit":
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    elif damage == "cut short":
        file.write_bytes(content[:-1])
    else:
        file.rename(tmp_path / "elsewhere")
    if damage == "link":
        file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError) as error:
        load_bundle(bundle)
    assert str(file) in str(error.value)
    assert "copy the whole folder again" in str(error.value)
    assert "\n" not in str(error.value)


def manifest_with(bundle, **changes):
    values = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps(values | changes))
    return values


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"schema_version": "searcher-bundle-2"}, "use the version of searcher that wrote it"),
        ({"files": {"../evil": {"sha256": "0" * 64, "num_bytes": 1}}}, "plain name of a file"),
        ({"files": {}}, "must list every file"),
        ({"members": []}, "members"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_a_foreign_manifest_is_refused_in_a_line(bundle, changes, word):
    manifest_with(bundle, **changes)
    with pytest.raises(UserError, match=word) as error:
        load_bundle(bundle)
    assert "\n" not in str(error.value)


def test_weights_that_are_a_pickle_are_not_unpickled(bundle, tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    content = pickle.dumps(Evil())
    (bundle / "weights.safetensors").write_bytes(content)
    facts = {"sha256": hashlib.sha256(content).hexdigest(), "num_bytes": len(content)}
    files = json.loads((bundle / "bundle.json").read_text())["files"]
    manifest_with(bundle, files=files | {"weights.safetensors": facts})
    with pytest.raises(UserError, match="must hold weights"):
        load_bundle(bundle)
    assert not (tmp_path / "executed").exists()


def test_weights_of_another_network_are_refused_in_a_line(bundle, new_member):
    content = save(dict(new_member(base_channels=4).network.weights))
    (bundle / "weights.safetensors").write_bytes(content)
    facts = {"sha256": hashlib.sha256(content).hexdigest(), "num_bytes": len(content)}
    files = json.loads((bundle / "bundle.json").read_text())["files"]
    manifest_with(bundle, files=files | {"weights.safetensors": facts})
    with pytest.raises(UserError, match="must fit this version of searcher") as error:
        load_bundle(bundle).predictor(device=CPU)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"[]", b"\xff\xfe", b'{"schema_version": 3}'])
def test_a_manifest_that_is_none_is_refused_in_a_line(bundle, content):
    (bundle / "bundle.json").write_bytes(content)
    with pytest.raises(UserError) as error:
        load_bundle(bundle)
    assert "\n" not in str(error.value)


def test_a_folder_without_manifest_is_no_bundle(tmp_path):
    assert not is_bundle(tmp_path)
    with pytest.raises(UserError, match="must be a bundle"):
        load_bundle(tmp_path)


def test_a_bundle_is_replaced_only_by_force_and_other_things_never(
    write, bundle, new_member, data_facts, tmp_path
):
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    with pytest.raises(UserError, match="--force"):
        write(bundle, "another", [new_member(seed=1)], data=data_facts)
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before
    write(bundle, "another", [new_member(seed=1)], data=data_facts, force=True)
    assert load_bundle(bundle).name == "another"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for force in (False, True):
        with pytest.raises(UserError, match="must be a new folder or a bundle to replace"):
            write(tmp_path / "mine", "x", [new_member()], data=data_facts, force=force)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "mine"]


def test_interrupted_or_without_room_nothing_is_left_and_what_was_there_stays(
    write, bundle, new_member, data_facts, tmp_path, new_format
):
    def interrupted(_networks, folder):
        (folder / "half").write_bytes(b"half")
        raise KeyboardInterrupt

    def full(_networks, _folder):
        raise OSError(28, "No space left on device")

    for theirs, error in ((interrupted, KeyboardInterrupt), (full, UserError)):
        new_format("theirs", theirs)
        with pytest.raises(error):
            write(bundle, "new", [new_member()], data=data_facts, force=True, formats=("bundle", "theirs"))
        assert load_bundle(bundle).name == "a name"
        assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_others_may_read_a_bundle_as_far_as_the_umask_lets_them(bundle):
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(bundle.stat().st_mode) == 0o777 & ~mask
    assert stat.S_IMODE((bundle / "bundle.json").stat().st_mode) == 0o666 & ~mask


def test_what_comes_there_meanwhile_is_not_lost(write, new_member, data_facts, tmp_path, new_format):
    def somebody_else(_networks, folder):
        (folder / "model.txt").write_bytes(b"mine")
        write(tmp_path / "b", "theirs", [new_member(seed=1)], data=data_facts)

    new_format("theirs", somebody_else)
    with pytest.raises(UserError, match="--force"):
        write(tmp_path / "b", "mine", [new_member()], data=data_facts, formats=("bundle", "theirs"))
    assert load_bundle(tmp_path / "b").name == "theirs"
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def two_channels(new_member, seed=0, **data):
    """A network of 2 channels of 16 bit, normalised by percentiles unless something else is said."""
    import dataclasses

    one = new_member(seed=seed, channels=2)
    data = {"normalisation": "percentile", "low_percentile": 2.0} | data
    config = one.network.config.to_dict() | {"data": data}
    network = TrainedNetwork.from_plain(config, one.network.weights, None, "uint16")
    facts = one.facts.model_copy(update={"config": network.config.to_dict()})
    return dataclasses.replace(one, network=network, facts=facts)


def test_channels_depth_and_normalisation_go_with_it(new_member, data_facts, write, tmp_path):
    member = two_channels(new_member)
    write(tmp_path / "b", "two", [member], data=data_facts)
    bundle = load_bundle(tmp_path / "b")
    assert bundle.manifest.channels == 2
    kind = bundle.predictor(device=CPU).kind
    assert (kind.channels, kind.dtype, str(kind.normalisation)) == (2, "uint16", "percentile 2 to 99.8")
    card = (tmp_path / "b" / "README.md").read_text()
    assert "2 channels of 16 bit, normalisation percentile 2 to 99.8" in card


def test_a_bundle_of_before_there_were_channels_takes_8_bit_colour(new_member, data_facts, write, tmp_path):
    write(tmp_path / "b", "old", [new_member()], data=data_facts)
    file = tmp_path / "b" / "bundle.json"
    values = json.loads(file.read_text())
    for key in ("channels", "dtype", "normalisation"):
        del values[key]
    file.write_text(json.dumps(values))
    assert load_bundle(tmp_path / "b").predictor(device=CPU).kind.is_colour


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"channels": 0}, "channels: Input should be greater than or equal to 1"),
        ({"channels": 3}, "channels and normalisation must be those that its networks were trained with"),
        ({"dtype": "float32"}, "dtype: Input should be 'uint8' or 'uint16'"),
        ({"normalisation": {"kind": "percentile", "low_percentile": 99.9}}, "low_percentile must be below"),
        ({"normalisation": {"kind": "fixed"}}, "channels and normalisation must be those"),
    ],
)
def test_what_it_says_of_images_is_checked(new_member, data_facts, write, tmp_path, changed, rule):
    write(tmp_path / "b", "two", [two_channels(new_member)], data=data_facts)
    file = tmp_path / "b" / "bundle.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    with pytest.raises(UserError, match=rule):
        load_bundle(tmp_path / "b")


def test_networks_that_see_images_otherwise_are_no_ensemble(new_member):
    members = [two_channels(new_member), two_channels(new_member, seed=1, normalisation="fixed")]
    networks = [each.network for each in members]
    with pytest.raises(
        UserError, match=r"trained on images of the same kind, got 2 channels of 16 bit, .* and 2 chan"
    ):
        predictor_of(networks, [each.model(CPU) for each in networks], device=CPU)
