"""The dashboard as a program meets it: over HTTP, on a real database."""

import http.client
import json
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import optuna
import pytest
import sqlalchemy as sa
from new_database import new_database
from optuna_dashboard import wsgi
from small_ledger import ask, metrics, register, registration, spec
from stored_study import StoredStudy

from searcher.cli.main import main
from searcher.dashboard.access import Access
from searcher.dashboard.server import DashboardServer, is_loopback
from searcher.exceptions import DatabaseError, UserError
from searcher.ledger.database import Database
from searcher.ledger.tables import StudyRow
from searcher.study.layout import ARTIFACTS

TOKEN = "0123456789abcdef-token"


@contextmanager
def served(
    url: str, *, writable: bool = False, access: Access | None = None, host: str = "127.0.0.1"
) -> Iterator[DashboardServer]:
    """Serve a database as the verb does."""
    with (
        Database.open(url, may_write=writable) as database,
        DashboardServer(database, host=host, port=0, writable=writable, access=access) as server,
    ):
        thread = threading.Thread(target=server.serve)
        thread.start()
        try:
            yield server
        finally:
            server.stop()
            thread.join()


def send(server: DashboardServer, method: str, path: str, body: object = None, **headers: str):
    """Return status, headers and body of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    content = body
    if body is not None and not isinstance(body, str):
        content, sent = json.dumps(body), {"Content-Type": "application/json", **sent}
    connection.request(method, path, content, sent)
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read().decode(errors="replace")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with `s.db`: a study of one COMPLETE trial."""
    folder = tmp_path_factory.mktemp("dashboard")
    with new_database(folder / "s.db") as database:
        StoredStudy(database, folder).complete(0.75)
    return folder


@pytest.fixture
def own_folder(folder, tmp_path) -> Path:
    """The same, to be changed."""
    own = shutil.copytree(folder, tmp_path / "own")
    with closing(sqlite3.connect(own / "s.db")) as connection:
        connection.execute("UPDATE searcher_studies SET storage_root = ?", [str(own / "runs")])
        connection.commit()
    return own


def content(folder: Path) -> str:
    with closing(sqlite3.connect(folder / "s.db")) as connection:
        return "\n".join(connection.iterdump())


def test_studies_and_trials_are_shown(folder):
    with served(str(folder / "s.db")) as server:
        status, _, body = send(server, "GET", "/api/studies")
        assert (status, [each["study_name"] for each in json.loads(body)["study_summaries"]]) == (200, ["s"])
        _, _, body = send(server, "GET", "/api/studies/1")
        [trial] = json.loads(body)["trials"]
        assert (trial["number"], trial["state"], trial["values"]) == (0, "Complete", [0.75])
        assert send(server, "GET", "/dashboard")[0] == 200
        assert send(server, "GET", "/csv/1")[2].startswith("Number,State")


CHANGES = [
    ("DELETE", "/api/studies/1", {}),
    ("DELETE", "/api/studies/1/", {}),
    ("POST", "/api/studies", {"study_name": "new", "directions": ["minimize"]}),
    ("POST", "/api/studies/1/rename", {"study_name": "other"}),
    ("PUT", "/api/studies/1/note", {"body": "hello", "version": 1}),
    ("POST", "/api/trials/1/user-attrs", {"user_attrs": {"a": 1}}),
    ("POST", "/api/trials/1/tell", {"state": "fail"}),
    ("POST", "/api/artifacts/1", {"file": "data:text/plain;base64,aGVsbG8=", "filename": "a.txt"}),
    ("POST", "/incompatible-rdb-schema", None),
    ("PATCH", "/api/studies/1", {}),
]


def test_nothing_that_changes_a_study_gets_through(folder):
    before = content(folder)
    with served(str(folder / "s.db")) as server:
        for method, path, body in CHANGES:
            status, _, text = send(server, method, path, body)
            assert status == 403, (method, path)
            assert "read-only" in text, (method, path)
            assert "--writable" in text, (method, path)
    assert content(folder) == before


def test_optuna_dashboard_has_no_other_way_to_read_than_those_that_were_looked_through():
    """A new version's way to write is refused; a GET that writes would not be, so a new one is to be read first."""
    routes = wsgi(optuna.storages.InMemoryStorage()).routes
    reading = {route.rule.partition("<")[0] for route in routes if route.method == "GET"}
    assert reading == {
        "/", "/api/meta", "/api/studies", "/api/studies/", "/artifacts/", "/csv/", "/dashboard", "/favicon.ico",
        "/incompatible-rdb-schema", "/static/",
    }  # fmt: skip


def test_a_writable_dashboard_deletes_a_study(own_folder):
    with served(str(own_folder / "s.db"), writable=True) as server:
        # A page of another site in the same browser must not, though it cannot read the answer.
        for headers in ({"Sec_Fetch_Site": "cross-site"}, {"Origin": "http://evil.example"}):
            status, _, text = send(server, "DELETE", "/api/studies/1", {}, **headers)
            assert (status, "another site" in text) == (403, True)
        own = {"Sec_Fetch_Site": "same-origin", "Origin": server.url}
        upload = {"file": "data:text/plain;base64,aGVsbG8=", "filename": "a.txt"}
        status, _, text = send(server, "POST", "/api/artifacts/1", upload, **own)
        path = f"/artifacts/1/{json.loads(text)['artifact_id']}"
        assert (status, send(server, "GET", path)[2]) == (201, "hello")
        assert send(server, "DELETE", "/api/studies/1", {}, **own)[0] == 204
    with Database.open(str(own_folder / "s.db")) as database:
        assert optuna.get_all_study_names(database.optuna_storage) == []
        [root] = database.storage_roots()
    assert list(Path(root, ARTIFACTS).iterdir()) == [], "its artifacts went with it"


def test_where_no_study_has_a_storage_root_an_upload_is_refused(tmp_path):
    with new_database(tmp_path / "s.db") as database:
        optuna.create_study(storage=database.optuna_storage, study_name="of another tool")
    upload = {"file": "data:text/plain;base64,aGVsbG8=", "filename": "a.txt"}
    with served(str(tmp_path / "s.db"), writable=True) as server:
        status, _, text = send(server, "POST", "/api/artifacts/1", upload)
        assert (status, "no study was launched with searcher" in json.loads(text)["reason"]) == (409, True)
        assert json.loads(send(server, "GET", "/api/studies/1")[2])["artifacts"] == []


def test_the_database_itself_refuses_to_be_written(tmp_path, migrated_postgres_url):
    new_database(tmp_path / "s.db").close()
    for url in (str(tmp_path / "s.db"), migrated_postgres_url):
        with Database.open(url) as writing:
            register(writing)
        with Database.open(url, may_write=False) as database:
            assert database.study_names() == ["s"]
            with pytest.raises(optuna.exceptions.StorageInternalError):
                database.optuna_storage.set_study_user_attr(1, "key", "value")
            with (
                pytest.raises(DatabaseError, match=r"(could not be written|is away): .*read-?only"),
                database.write() as session,
            ):
                session.execute(sa.update(StudyRow).values(budget=1))


def test_postgres_is_served_and_its_password_shown_nowhere(migrated_postgres_url, capfd, caplog):
    with Database.open(migrated_postgres_url) as database:
        ledger = register(database)
        number = ask(ledger)
        ledger.report(number, 1, metrics(0.5))
    caplog.set_level("DEBUG")
    with served(migrated_postgres_url) as server:
        bodies = [send(server, "GET", path)[2] for path in ("/api/studies", "/api/studies/1", "/dashboard")]
        bodies.append(send(server, "GET", "/api/studies/77/plot/contour")[2])  # an error inside the dashboard
    assert '"study_name": "s"' in bodies[0]
    out, err = capfd.readouterr()
    assert "s3cret-pw" not in "".join([*bodies, out, err, caplog.text])


def test_on_loopback_the_address_must_name_this_machine(folder):
    with served(str(folder / "s.db")) as server:
        for host in ("evil.example", "evil.example:8080", "127.0.0.1.evil.example", "", "[::1"):
            status, _, text = send(server, "GET", "/api/studies", Host=host)
            assert (status, "must name this machine" in text) == (403, True), host
        for host in ("127.0.0.1:1", "localhost", "LOCALHOST:9000", "[::1]:8080"):
            assert send(server, "GET", "/api/studies", Host=host)[0] == 200, host


def test_with_a_token_nothing_is_shown_without_it(folder):
    with served(str(folder / "s.db"), access=Access(TOKEN), host="0.0.0.0") as server:
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": f"Basic {TOKEN}"},
            {"Cookie": "x"},
        ):
            for path in ("/api/studies", "/static/bundle.js", "/artifacts/1/1/0", "/loginx"):
                status, answered, text = send(server, "GET", path, **headers)
                assert (status, answered["WWW-Authenticate"]) == (401, "Bearer"), (path, headers)
                assert TOKEN not in text
        assert send(server, "DELETE", "/api/studies/1", {})[0] == 401
        status, answered, _ = send(server, "GET", "/dashboard", Accept="text/html")
        assert (status, answered["Location"]) == (303, "/login")
        assert send(server, "GET", "/api/studies", Authorization=f"Bearer {TOKEN}")[0] == 200
        assert send(server, "DELETE", "/api/studies/1", {}, Authorization=f"Bearer {TOKEN}")[0] == 403


def cookie_of(headers) -> str:
    cookie, *attributes = [part.strip() for part in headers["Set-Cookie"].split(";")]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(attributes)
    return cookie


def test_a_browser_logs_in_by_the_form(folder):
    with served(str(folder / "s.db"), access=Access(TOKEN)) as server:
        assert 'name="token"' in send(server, "GET", "/login")[2]
        status, headers, text = send(server, "POST", "/login", "token=wrong")
        assert (status, headers["Set-Cookie"], "not the token" in text) == (403, None, True)
        status, headers, text = send(server, "POST", "/login", f"token={TOKEN}")
        cookie = cookie_of(headers)
        assert status == 200
        assert TOKEN not in cookie + text
        assert send(server, "GET", "/api/studies", Cookie=cookie)[0] == 200
        assert send(server, "GET", "/api/studies", Cookie=cookie[:-1] + "_")[0] == 401


def test_the_printed_link_logs_in_once(folder):
    access = Access.make()
    with served(str(folder / "s.db"), access=access) as server:
        link = f"/login/{access.login_code}"
        assert send(server, "HEAD", link)[1]["Set-Cookie"] is None  # a preview does not use it up
        cookie = cookie_of(send(server, "GET", link)[1])
        assert send(server, "GET", "/api/studies", Cookie=cookie)[0] == 200
        status, headers, text = send(server, "GET", link)
        assert (status, headers["Set-Cookie"], "used before" in text) == (403, None, True)
        assert send(server, "GET", "/login/")[0] == 403


def test_a_short_token_is_refused_without_showing_it():
    with pytest.raises(UserError, match="at least 16 ASCII characters") as refused:
        Access("short")
    assert "short" not in str(refused.value)
    assert TOKEN not in repr(Access(TOKEN))


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True),
        ("0.0.0.0", False), ("::", False), ("192.168.1.5", False), ("localhost.evil.example", False), ("", False),
    ],
)  # fmt: skip
def test_what_counts_as_loopback(host, expected):
    assert is_loopback(host) == expected


def test_an_artifact_is_found_in_whichever_storage_root_has_it(own_folder, tmp_path):
    other = tmp_path / "elsewhere"
    with Database.open(str(own_folder / "s.db")) as database:
        registration(spec(study__name="other"), root=other).register(database)
        root_of_s = Path(database.storage_roots()[1])
        for name, root in (("s", root_of_s), ("other", other)):
            (root / ARTIFACTS).mkdir(parents=True)
            store = optuna.artifacts.FileSystemArtifactStore(root / ARTIFACTS)
            (tmp_path / f"{name}.txt").write_text(f"of {name}")
            loaded = optuna.load_study(study_name=name, storage=database.optuna_storage)
            optuna.artifacts.upload_artifact(
                artifact_store=store, file_path=str(tmp_path / f"{name}.txt"), study_or_trial=loaded
            )
    with served(str(own_folder / "s.db")) as server:
        for number, name in ((1, "s"), (2, "other")):
            [artifact] = json.loads(send(server, "GET", f"/api/studies/{number}")[2])["artifacts"]
            path = f"/artifacts/{number}/{artifact['artifact_id']}"
            status, headers, text = send(server, "GET", path)
            assert (status, text) == (200, f"of {name}")
            assert headers["Access-Control-Allow-Origin"] is None
            assert headers["Content-Security-Policy"] == "sandbox"
        for file in (other / ARTIFACTS).iterdir():
            file.unlink()
        assert send(server, "GET", path)[0] == 404


def test_a_study_in_an_object_store_takes_no_other_studys_pictures_along(
    own_folder, tmp_path, monkeypatch, caplog
):
    """compose's dashboard has a root that cannot be written; here a file is where the cache's folder would be."""
    (tmp_path / "cache").touch()
    monkeypatch.setenv("SEARCHER_CACHE", str(tmp_path / "cache"))
    (tmp_path / "a.txt").write_text("a picture")
    pictures = {}
    with Database.open(str(own_folder / "s.db")) as database:
        registration(spec(study__name="newer"), root=tmp_path / "bucket").register(database)
        bucket, folder = (Path(root, ARTIFACTS) for root in database.storage_roots())
        for name, place in (("s", folder), ("newer", bucket)):
            place.mkdir(parents=True)
            pictures[name] = optuna.artifacts.upload_artifact(
                artifact_store=optuna.artifacts.FileSystemArtifactStore(place),
                file_path=str(tmp_path / "a.txt"),
                study_or_trial=optuna.load_study(study_name=name, storage=database.optuna_storage),
            )
        with database.write() as session:
            of_newer = sa.update(StudyRow).where(StudyRow.name == "newer")
            session.execute(of_newer.values(storage_root="s3://bucket/runs"))
    unusable = f"{tmp_path}/cache/mirrors/"
    with served(str(own_folder / "s.db"), writable=True) as server:
        for _ in range(2):
            status, _, text = send(server, "GET", f"/artifacts/1/{pictures['s']}")
            assert (status, text) == (200, "a picture")
        status, _, text = send(server, "GET", f"/artifacts/2/{pictures['newer']}")
        assert (status, unusable in text, "choose another folder with SEARCHER_CACHE" in text) == (
            502,
            True,
            True,
        )
        upload = {"file": "data:text/plain;base64,aGVsbG8=", "filename": "a.txt"}
        assert send(server, "POST", "/api/artifacts/2", upload)[0] == 502
        assert send(server, "DELETE", f"/api/artifacts/1/{pictures['s']}", {})[0] == 204
    assert list(folder.iterdir()) == []
    [said] = [
        record.getMessage() for record in caplog.records if record.name == "searcher.dashboard.artifacts"
    ]
    assert said.startswith(f"pictures in s3://bucket/runs cannot be shown or kept: {unusable}")


def test_a_reader_makes_no_database(tmp_path, capsys):
    assert main(["dashboard", "--db", str(tmp_path / "none.db"), "--port", "0"]) == 2
    assert "must exist" in capsys.readouterr().err
    assert not (tmp_path / "none.db").exists()


def test_a_port_in_use_is_one_line(folder, capsys):
    with served(str(folder / "s.db")) as server:
        assert main(["dashboard", "--db", str(folder / "s.db"), "--port", str(server.port)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"--port {server.port}: must be free")
    assert error.count("\n") == 1


def test_a_host_that_is_not_this_machine_is_one_line(folder, capsys):
    assert main(["dashboard", "--db", str(folder / "s.db"), "--host", "203.0.113.1", "--port", "0"]) == 2
    assert capsys.readouterr().err.startswith("--host 203.0.113.1: must be an address of this machine")
