"""That a plug-in is another one than at the launch before is said."""

from searcher.ledger.this_launch import changed_plugins

ONE, OTHER = {"plug-in a.py": "1.0 aaa", "torch": "2.11"}, {"plug-in a.py": "1.0 bbb", "torch": "2.12"}


def test_another_content_is_said_with_both_digests():
    [line] = changed_plugins([ONE, {"torch": "2.11"}, OTHER])
    assert line.startswith("plug-in a.py is 1.0 bbb, was 1.0 aaa at the launch before: ")
    assert line.endswith("begin anew with --set study.name=NAME")


def test_the_same_a_first_launch_and_a_new_plugin_are_not():
    for launches in (
        [ONE],
        [ONE, ONE],
        [OTHER, ONE, ONE],
        [{"torch": "2.11"}, ONE],
        [ONE, {"torch": "2.12"}],
    ):
        assert changed_plugins(launches) == []
