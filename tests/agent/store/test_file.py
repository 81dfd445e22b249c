"""The store's file: private, locked, and never deleted, whatever state it is found in."""

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent.store import otlp
from agent.store.opened import opened

from otel_agent.errors import Unavailable
from otel_agent.store import schema
from otel_agent.store.sink import NotStored
from otel_agent.store.store import open_store

NOW = 1_800_000_000.0
STAMP = "20270115T080000Z"
NOBODY = 65534
SECOND_WRITER = """
import sys
from pathlib import Path
from otel_agent.store.store import open_store
try:
    open_store(Path(sys.argv[1]), retention_days=7, request_days=30, max_bytes=10**9)
except Exception as error:
    print(type(error).__name__, error)
"""


def clock() -> float:
    return NOW


def test_folder_and_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        with opened(tmp_path / "data" / "store", clock=clock) as it:
            it.keep("logs", otlp.one_log(NOW))
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in it.store.path.parent.iterdir()}
            folder = stat.S_IMODE(it.store.path.parent.stat().st_mode)
    finally:
        os.umask(umask)

    assert modes == dict.fromkeys(("store.lock", "store.db", "store.db-wal", "store.db-shm"), 0o600)
    assert folder == 0o700


def test_a_file_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    with opened(tmp_path, clock=clock) as it:
        path = it.store.path
    path.chmod(0o644)
    with opened(tmp_path, clock=clock):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_second_writer_is_told_who_writes_and_what_to_do(tmp_path: Path) -> None:
    with opened(tmp_path, clock=clock) as it:
        second = subprocess.run(
            [sys.executable, "-c", SECOND_WRITER, tmp_path],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
            cwd=_root(),
        )
        assert it.keep("logs", otlp.one_log(NOW)) == 0  # the first one is not disturbed

    assert second.stdout.strip() == (
        f"Unavailable the store in {tmp_path} is being written by another process (pid {os.getpid()}):"
        " stop that process, or set OTEL_LLM_DATA_DIR to another folder"
    )


@pytest.fixture
def foreign_folder() -> Iterator[Path]:
    """A folder that everybody may enter but only its owner may write; pytest's own cannot be entered by others."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o700)
    shutil.rmtree(folder)


def test_a_folder_that_may_not_be_written_is_told_with_the_remedy(foreign_folder: Path) -> None:
    """Permissions do not bind root, who opens the store as nobody here, in a child of this process."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.getuid() == 0:
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            open_store(foreign_folder / "store", retention_days=7, request_days=30, max_bytes=10**9)
        except Unavailable as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        told = answer.read()
    os.waitpid(child, 0)

    assert told == (
        f"the folder of the store, {foreign_folder / 'store'}, cannot be written: Permission denied:"
        " set OTEL_LLM_DATA_DIR to a folder that you may write"
    )


@pytest.mark.parametrize(
    ("folder", "reason"),
    [("a-file/store", "Not a directory"), ("a-file", "File exists")],
    ids=["below a file", "a file"],
)
def test_a_file_in_place_of_the_folder_is_told_with_the_remedy(tmp_path: Path, folder: str, reason: str) -> None:
    (tmp_path / "a-file").write_text("")
    with pytest.raises(Unavailable) as told:
        open_store(tmp_path / folder, retention_days=7, request_days=30, max_bytes=10**9)

    assert told.value.reason == f"the folder of the store, {tmp_path / folder}, cannot be written: {reason}"
    assert told.value.remedy == "set OTEL_LLM_DATA_DIR to a folder that you may write"


def _garbage(path: Path) -> None:
    path.write_bytes(b"this is no database" * 1000)


def _torn(path: Path) -> None:
    """A page in the middle is overwritten, as a failing disk does."""
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xff" * 65536)


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _foreign(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE somebody_elses (x)")
    connection.close()


@pytest.mark.parametrize("damage", [_garbage, _torn, _cut, _foreign])
def test_a_damaged_file_is_moved_aside_and_a_fresh_one_begun(
    tmp_path: Path, damage: object, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(tmp_path, clock=clock) as it:
        it.keep("logs", otlp.one_log(NOW, "x" * 300_000))
        path = it.store.path
    damage(path)  # type: ignore[operator]
    left = path.read_bytes()

    with opened(tmp_path, clock=clock) as it:
        it.keep("logs", otlp.one_log(NOW, "after"))
        rows = it.history.logs(since_s=NOW - 1, until_s=NOW + 1)

    aside = path.with_name(f"store.db.damaged-{STAMP}")
    assert [row.body for row in rows] == ["after"]
    assert aside.read_bytes() == left
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith(f"the store {path} is damaged (")
    assert told.endswith(f"): moved to {aside.name}, and a fresh one begun")


def test_damage_that_is_met_while_writing_refuses_the_senders_and_is_moved_aside_at_the_next_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(tmp_path, retention_days=7, request_days=30, max_bytes=10**9, clock=clock)
    message = otlp.one_log(NOW, "x" * 300_000)
    store.submit("logs", message, 1).result(10)
    connection = sqlite3.connect(store.path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()
    with store.path.open("r+b") as file:  # a page map of nonsense under the open store
        file.seek(4096)
        file.write(b"\xff" * (store.path.stat().st_size - 4096))
    answers = [store.submit("logs", message, 1) for _ in range(20)]
    faults = [answer.exception(10) for answer in answers]
    store.close()
    assert any(isinstance(fault, NotStored) and "malformed" in str(fault) for fault in faults)

    with opened(tmp_path, clock=clock) as it:
        assert it.keep("logs", otlp.one_log(NOW, "after")) == 0
    assert (tmp_path / f"store.db.damaged-{STAMP}").exists()
    assert not (tmp_path / "store.damaged").exists()
    assert "an earlier run met damage in it" in caplog.text


def test_a_second_damaged_file_of_the_same_second_does_not_replace_the_first(tmp_path: Path) -> None:
    for content in (b"first", b"second"):
        with opened(tmp_path, clock=clock) as it:
            path = it.store.path
        path.write_bytes(content * 100)
    with opened(tmp_path, clock=clock):
        pass
    assert sorted(found.name for found in tmp_path.glob("*.damaged-*")) == [
        f"store.db.damaged-{STAMP}",
        f"store.db.damaged-{STAMP}-2",
    ]


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    with opened(tmp_path, clock=clock) as it:
        path = it.store.path
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meta SET value = '99'")
    connection.close()

    with pytest.raises(Unavailable, match=r"newer version \(schema 99, this one knows 1\): upgrade otel-llm"):
        open_store(tmp_path, retention_days=7, request_days=30, max_bytes=10**9)
    assert not list(tmp_path.glob("*.damaged-*"))


def test_an_older_file_is_brought_up_step_by_step_and_a_failing_step_leaves_it_as_it_was() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    steps = {1: ["ALTER TABLE log ADD COLUMN a INTEGER"], 2: ["ALTER TABLE log ADD COLUMN b INTEGER"]}
    broken = {1: steps[1], 2: ["ALTER TABLE log ADD COLUMN b INTEGER", "ALTER TABLE missing ADD COLUMN c"]}
    schema.prepare(connection)

    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        schema.prepare(connection, version=3, migrations=broken)
    half = connection.execute("SELECT value FROM meta").fetchone(), _columns(connection)
    schema.prepare(connection, version=3, migrations=steps)
    whole = connection.execute("SELECT value FROM meta").fetchone(), _columns(connection)
    connection.close()

    assert (half[0], half[1][-1]) == (("2",), "a")
    assert (whole[0], whole[1][-2:]) == (("3",), ["a", "b"])


def _columns(connection: sqlite3.Connection) -> list[str]:
    return [row[1] for row in connection.execute("PRAGMA table_info(log)")]


def _root() -> Path:
    return Path(__file__).resolve().parents[3]
