"""What every node of a cluster must have: this code, the same storage folder, the same data.

Asked of each node that could run a trial before the first one starts. A node that joins later is checked by its first
trial (`check_code`, `check_storage`, `open_store`). If the node lacks something, that trial FAILs with the reason and
is queued again.
"""

import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from searcher._version import __version__
from searcher.child_environment import DATABASE_SECRETS
from searcher.data_pipeline.exceptions import DataError
from searcher.data_pipeline.store import Store
from searcher.exceptions import NodeError, StorageError, UserError
from searcher.orchestration.cluster.code_digest import SHOWN_DIGITS, code_digest
from searcher.orchestration.cluster.node_tasks import ask_nodes
from searcher.orchestration.cluster.resources import TrialResources, nodes_for
from searcher.orchestration.trials.messages import TrialJob
from searcher.plugins import PluginError, load_plugins
from searcher.storage.mirror import root_text, storage_at, storage_of
from searcher.storage.object_store import below
from searcher.study.layout import STORAGE_MARK
from searcher.training.dataset import DataRequest

__all__ = ["check_code", "check_nodes", "check_storage", "mark_storage", "open_store"]

_ANSWER_WITHIN_S = 120.0
"""For a node to start a process and to read and write two small files; a network disk that hangs takes longer."""
_MOUNTED_WITHIN_S = 20.0
"""Seconds to wait for a folder that is mounted while its node starts. It is long, so that a broken node does not take
one trial after another from the nodes that can train."""
_OURS = "driver"
"""The file of a probe that the driver writes."""


@dataclass(frozen=True)
class _Answer:
    """What a node says about itself."""

    version: str
    problem: str | None
    """Why it cannot use the storage folder, None if it can."""
    secrets: tuple[str, ...] = ()
    """Variables that open the database and that its processes were started with: anybody's trial there reads them."""
    code: str = ""
    """Digest of its code with its plug-ins', none of a node whose code knows of none."""
    lacks: str | None = None
    """Why it cannot import the plug-ins, None if it can."""


def check_nodes(
    resources: TrialResources,
    *,
    storage_root: Path,
    data: DataRequest,
    fingerprint: str,
    plugins: Sequence[str] = (),
    say: Callable[[str], None],
) -> None:
    """Check every node that could run a trial, and build the store of the data on nodes that lack it.

    A node must have the driver's version and code of searcher, import the plug-ins, and use the same storage and data.
    If the cluster has no such node yet, the storage alone is checked: later nodes are checked by their first trial.
    A node that leaves before it answers is skipped with a line. A node that leaves while its store is built is
    skipped silently.

    Args:
        resources: Resources of one trial.
        storage_root: A folder that must be the same on every node, created if it is missing; or the local mirror of an
            object store, which all nodes must reach.
        data: The data set, whose store is built once on each node.
        fingerprint: Fingerprint of the driver's data.
        plugins: The plug-ins that the driver has imported, see `plugin_sources`.
        say: Receives lines for the user.

    Raises:
        UserError: Some nodes cannot run trials of the study, one line for each; or the driver cannot write to the
            storage, or all nodes left before they answered.
    """
    nodes = nodes_for(resources)
    with _probe_folder(storage_root) as (folder, nonce):
        answers = ask_nodes(nodes, _look, folder, nonce, plugins, within_s=_ANSWER_WITHIN_S)
        _say_gone(nodes, answers, say)
        for node, answer in answers.items():
            if not isinstance(answer, str):
                problem = _problem(answer, root_text(storage_root), folder, node, nonce, plugins)
                answers[node] = problem or answer
    _refuse(nodes, answers)
    for secret in DATABASE_SECRETS:
        knowing = [
            nodes[node] for node, answer in answers.items() if secret in getattr(answer, "secrets", ())
        ]
        if knowing:
            say(
                f"{secret} is in the environment of {', '.join(knowing)}, where every process of the cluster can read "
                "it; start Ray there without it"
            )
    nodes = {node: name for node, name in nodes.items() if node in answers}
    stores = ask_nodes(
        nodes, _prepare, data, fingerprint, plugins, say=lambda: say("waiting for the nodes' data stores")
    )
    _refuse(nodes, stores)


def mark_storage(storage_root: Path, study: str) -> str:
    """Write a new random mark to the study's folder, and return it. `check_storage` uses it on later nodes.

    Raises:
        UserError: The mark cannot be written.
    """
    mark = secrets.token_hex(16)
    try:
        storage_of(storage_root).write(f"{study}/{STORAGE_MARK}", mark.encode())
    except OSError as error:
        raise UserError(
            f"--storage {storage_root}: must be writable, got {error.strerror}; make room, or choose another path"
        ) from error
    return mark


def check_code(job: TrialJob) -> None:
    """Import a trial's plug-ins on this node, and check that its code is the driver's.

    In a launch on one machine, the code is not compared.

    Raises:
        NodeError: This node has other code, or lacks a plug-in.
        PluginError: In a launch on one machine, a plug-in is missing although the driver had imported it.
    """
    problem = _import_problem(job.plugins)
    if problem is not None and job.code_digest is None:
        raise PluginError(problem)
    if problem is None and job.code_digest in (None, code_digest(job.plugins)):
        return
    assert job.code_digest is not None
    time.sleep(_MOUNTED_WITHIN_S)  # as a folder is waited for: it must not draw one trial after the other
    problem = problem or _other_code(job.code_digest, code_digest(job.plugins))
    raise NodeError(f"node {os.uname().nodename}: {problem}")


def check_storage(job: TrialJob) -> None:
    """Check that the storage folder on this node is the driver's. A launch on one machine needs no check.

    Raises:
        NodeError: It is another folder.
    """
    if job.storage_mark is None:
        return
    folder = below(job.storage_root, str(Path(job.run_dir).parent))
    give_up_at = time.monotonic() + _MOUNTED_WITHIN_S
    while True:
        try:
            if _read(folder, STORAGE_MARK) == job.storage_mark:
                return
            problem = f"got one without this launch's {STORAGE_MARK}"
        except StorageError as error:
            problem = f"got: {error}"
        if time.monotonic() >= give_up_at:
            rule, remedy = _rule(job.storage_root)
            raise NodeError(f"node {os.uname().nodename}: {rule}, {problem}; {remedy}")
        time.sleep(1.0)


def open_store(job: TrialJob) -> Store:
    """Return the store of a trial's data on this node.

    Raises:
        NodeError: This node of a cluster lacks the data, or has other data.
        DataError: The same, in a launch on one machine.
    """
    try:
        return job.data.open(job.data_fingerprint)
    except DataError as error:
        if job.storage_mark is None:
            raise
        raise NodeError(f"node {os.uname().nodename}: {error}") from error


# ---- on the node -------------------------------------------------------------------------------------------------


def _look(folder: str, nonce: str, plugins: Sequence[str], node: str) -> _Answer:
    """Read what the driver wrote into the shared folder, and write something for it to read; import the plug-ins."""
    problem = None
    try:
        if _read(folder, _OURS) != nonce:
            problem = "got one without the file that the driver has just written there"
        else:
            storage_at(folder).write(node, nonce.encode())
    except StorageError as error:
        problem = f"got: {error}"
    except OSError as error:
        problem = f"got one that cannot be written: {error.strerror}"
    secrets = tuple(name for name in DATABASE_SECRETS if name in os.environ)
    lacks = _import_problem(plugins)
    return _Answer(__version__, problem, secrets, code_digest(() if lacks else plugins), lacks)


def _import_problem(plugins: Sequence[str]) -> str | None:
    """Import plug-ins; return why that is not possible."""
    try:
        load_plugins(plugins, folder=Path("/"))
    except PluginError as error:
        return " | ".join(error.problems)
    return None


def _prepare(data: DataRequest, fingerprint: str, plugins: Sequence[str], _node: str) -> str | None:
    """Open or build the node's store; return why that is not possible."""
    if (problem := _import_problem(plugins)) is not None:
        return problem
    try:
        data.open(fingerprint)
    except DataError as error:
        return " | ".join(error.problems)
    return None


# ---- in the driver -----------------------------------------------------------------------------------------------


@contextmanager
def _probe_folder(storage_root: Path) -> Iterator[tuple[str, str]]:
    """Yield a folder in the storage root with a file for the nodes to read; gone afterwards."""
    storage, nonce = storage_of(storage_root), secrets.token_hex(16)
    name = f".probe-{nonce}"
    try:
        try:
            storage.write(f"{name}/{_OURS}", nonce.encode())
        except OSError as error:
            raise UserError(
                f"--storage {storage.text}: must be writable, got {error.strerror}; choose another path"
            ) from error
        yield below(storage.text, name), nonce
    finally:
        storage.discard(name)


def _problem(
    answer: _Answer, storage_root: str, folder: str, node: str, nonce: str, plugins: Sequence[str]
) -> str | None:
    if answer.version != __version__:
        return f"must have gland-searcher {__version__} as the driver, got {answer.version}; install that"
    if answer.lacks is not None:
        return f"must import the driver's plug-ins, got: {answer.lacks}; install or copy them there"
    if answer.code != code_digest(plugins):
        return _other_code(code_digest(plugins), answer.code)
    problem = answer.problem
    if problem is None and _read(folder, node) != nonce:
        problem = "got one whose files the driver does not see"
    rule, remedy = _rule(storage_root)
    return problem and f"{rule}, {problem}; {remedy}"


def _say_gone(nodes: Mapping[str, str], answers: Mapping[str, object], say: Callable[[str], None]) -> None:
    """Name the nodes that have left meanwhile, because Ray reports a dead node as alive for a while.

    Raises:
        UserError: All have.
    """
    gone = [name for node, name in nodes.items() if node not in answers]
    if gone and not answers:
        raise UserError(
            f"--address: some node must answer, got none of {', '.join(gone)}; look at `ray status`"
        )
    if gone:
        say(f"going on without {', '.join(gone)}, which left the cluster")


def _refuse(nodes: Mapping[str, str], answers: Mapping[str, Any]) -> None:
    problems = [
        f"node {nodes[node]}: {answer}" for node, answer in answers.items() if isinstance(answer, str)
    ]
    if problems:
        raise UserError(*problems)


def _other_code(drivers: str, nodes: str) -> str:
    """Return the error message for a node whose code differs from the driver's."""
    got = nodes[:SHOWN_DIGITS] or "one without a digest"
    return (
        f"must have the driver's code, {drivers[:SHOWN_DIGITS]}, got {got}; install the same revision there"
    )


def _rule(storage_root: str) -> tuple[str, str]:
    """Return the error message for a node that lacks something: the rule and the remedy."""
    rule, remedy = storage_at(storage_root).same_for_nodes
    return f"--storage {storage_root} {rule}", remedy


def _read(folder: str, name: str) -> str | None:
    """Return a file of a folder or object store, None if there is none."""
    content = storage_at(folder).read(name)
    return None if content is None else content.decode(errors="replace")
