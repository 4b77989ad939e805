"""Other processes beside a writer: readers that follow it, a second writer, a fork, a kill."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from t4dm.errors import NetworkFolderWarning, StoreClosedError, StoreLockedError
from t4dm.t4dx import T4DX, Edge, Item, Options, recovery
from t4dm.t4dx.fs import OsFileSystem
from t4dm.t4dx.journal import Journal

OS = Options(durability="os", memtable_items=1000)

CHILD = """
import sys
from t4dm.errors import T4DMError
from t4dm.t4dx import T4DX, Item, Options
path = sys.argv[1]
options = Options(durability="os")
for line in sys.stdin:
    verb, _, name = line.strip().partition(" ")
    try:
        if verb == "write":
            store = T4DX.open(path, dim=2, options=options)
        elif verb == "read":
            store = T4DX.open(path, read_only=True)
        elif verb == "refresh":
            store.refresh()
        elif verb == "insert":
            store.insert(Item(id=name))
        elif verb == "flush":
            store.flush()
        elif verb == "close":
            store.close()
        print("".join(sorted(item.id for item in store.scan())) if verb != "close" else "closed", flush=True)
    except T4DMError as error:
        print(f"{type(error).__name__}: {error}", flush=True)
"""


class Other:
    """Another process with a store of its own."""

    def __init__(self, path: Path) -> None:
        command = [sys.executable, "-c", CHILD, str(path)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def do(self, command: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Other]:
    child = Other(tmp_path / "store")
    yield child
    child.kill()


def opened(path: Path, **options: object) -> T4DX:
    return T4DX.open(path, dim=2, options=OS, **options)  # type: ignore[arg-type]


def journal(store: T4DX) -> Journal:
    assert store._journal is not None
    return store._journal


def ids(store: T4DX) -> str:
    return "".join(sorted(item.id for item in store.scan()))


def fingerprint(folder: Path) -> dict[str, tuple[int, str]]:
    """Time of the last change and digest of every file."""
    return {
        str(path): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_reader_process_sees_all_that_was_written_and_follows(tmp_path: Path, other: Other) -> None:
    path = tmp_path / "store"
    with opened(path) as store:
        store.insert(Item(id="a"))
        store.flush()
        store.insert(Item(id="b"))  # only in the tail of the log
        assert other.do("read") == "ab"
        store.insert(Item(id="c"))
        journal(store).rotate()
        store.insert(Item(id="d"))
        assert other.do("refresh") == "abcd"
        store.insert(Item(id="e"))
        store.flush()
        store.delete("a")
        store.compact()
        assert other.do("refresh") == "bcde"
        assert other.do("insert z").startswith("ReadOnlyStoreError")


def test_a_second_writer_is_told_who_holds_the_lock_and_a_kill_frees_it(tmp_path: Path, other: Other) -> None:
    path = tmp_path / "store"
    assert other.do("write") == ""
    assert other.do("insert a") == "a"
    with pytest.raises(StoreLockedError, match=f"open for writing by pid {other.process.pid} on .* since "):
        opened(path)
    assert ids(T4DX.open(path, read_only=True)) == "a"
    assert other.do("insert b") == "ab"
    other.kill()
    with opened(path) as store:
        assert ids(store) == "ab"
        store.insert(Item(id="c"))
    assert ids(T4DX.open(path, read_only=True)) == "abc"


def test_reading_changes_no_byte(tmp_path: Path) -> None:
    path = tmp_path / "store"
    store = opened(path)
    store.insert_many([Item(id="a"), Item(id="b")], [Edge("a", "b", "CAUSES")])
    store.flush()
    store.insert(Item(id="c"))
    before = fingerprint(path)
    reader = T4DX.open(path, read_only=True)
    assert ids(reader) == "abc"
    assert reader.refresh() == store.lsn
    assert reader.stats()["wal_bytes"] == store.stats()["wal_bytes"]
    reader.close()
    assert fingerprint(path) == before
    store.close()
    closed = fingerprint(path)
    opened(path).close()
    opened(path).close()
    locks = {str(path / "LOCK"), str(path / "gc.lock")}
    assert {k: v[1] for k, v in fingerprint(path).items() if k not in locks} == {
        k: v[1] for k, v in closed.items() if k not in locks
    }


class CountingDisk(OsFileSystem):
    """Counts the bytes that are read."""

    read_bytes = 0

    def read_range(self, path: str, at: int, size: int) -> bytes:
        data = super().read_range(path, at, size)
        self.read_bytes += len(data.rstrip(b"\0"))
        return data

    def read(self, path: str) -> bytes:
        data = super().read(path)
        self.read_bytes += len(data)
        return data


def test_a_refresh_reads_only_new_records_while_the_manifest_is_the_same(tmp_path: Path) -> None:
    path, disk = tmp_path / "store", CountingDisk()
    with opened(path) as store:
        for n in range(30):
            store.insert(Item(id=f"{n}", content="x" * 1000))
        reader = T4DX.open(path, read_only=True, fs=disk)
        assert disk.read_bytes > 30_000
        snapshot, disk.read_bytes = reader.snapshot(), 0
        store.insert(Item(id="new", content="y" * 1000))
        assert reader.count() == 30
        assert reader.refresh() == store.lsn
        assert reader.get("new").content == "y" * 1000
        assert disk.read_bytes < 2500
        assert snapshot.count() == 30, "what was pinned stays"
        state = reader._state
        store.register_edge_type("KNOWS")
        store.insert(Item(id="more"), [Edge("more", "new", "KNOWS")])
        reader.refresh()
        assert reader._state is not state
        assert [edge.type for edge in reader.edges("more")] == ["KNOWS"]
        assert store.refresh() == store.lsn


def test_a_transaction_is_seen_whole_or_not_at_all_while_it_is_being_written(tmp_path: Path) -> None:
    path = tmp_path / "store"
    options = Options(durability="os", txn_part_bytes=100)
    with T4DX.open(path, dim=2, options=options) as store:
        store.insert(Item(id="first"))
        log, used = path / "wal-00000000000000000001.log", store.stats()["wal_bytes"]
        with store.transaction() as tx:
            for n in range(9):
                tx.insert(Item(id=f"{n}", content="x" * 80))
        end, data = store.stats()["wal_bytes"], log.read_bytes()
        copy = tmp_path / "copy"
        for cut in range(used, end, 97):
            copy.mkdir(exist_ok=True)
            for file in path.rglob("*"):
                target = copy / file.relative_to(path)
                target.mkdir(exist_ok=True) if file.is_dir() else target.write_bytes(file.read_bytes())
            (copy / log.name).write_bytes(data[:cut] + bytes(len(data) - cut))
            reader = T4DX.open(copy, read_only=True)
            assert ids(reader) == "first"
            (copy / log.name).write_bytes(data)
            reader.refresh()
            assert reader.count() == 10


def test_garbage_waits_while_a_reader_opens_its_files(tmp_path: Path) -> None:
    path, disk = tmp_path / "store", OsFileSystem()
    with opened(path) as store:
        store.insert(Item(id="a"))
        guard = disk.guard(str(path / recovery.GUARD), exclusive=False)
        assert guard is not None
        store.flush()
        assert (path / "wal-00000000000000000001.log").exists()
        assert disk.guard(str(path / recovery.GUARD), exclusive=True) is None
        guard.release()
        store.insert(Item(id="b"))
        store.flush()
        assert not (path / "wal-00000000000000000001.log").exists()
        assert sorted(p.name for p in path.glob("MANIFEST-*")) == ["MANIFEST-00000000000000000003"]
        assert ids(store) == "ab"


def test_a_reader_opens_again_and_again_while_files_come_and_go(tmp_path: Path, other: Other) -> None:
    assert other.do("write") == ""
    path, seen = tmp_path / "store", 0
    for n in range(5):
        assert other.do(f"insert {chr(97 + n)}")
        assert other.process.stdin is not None
        other.process.stdin.write("flush\n")
        other.process.stdin.flush()
        for _ in range(2):
            found = len(ids(T4DX.open(path, read_only=True)))
            assert found == n + 1 >= seen
            seen = found
        assert other.process.stdout is not None
        assert len(other.process.stdout.readline().strip()) == n + 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_handle_is_dead_in_a_fork_and_the_lock_stays_with_the_parent(tmp_path: Path) -> None:
    """`forks` drops the descriptors in the child."""
    path = tmp_path / "store"
    with opened(path) as store:
        store.insert(Item(id="a"))
        size = store.stats()["wal_bytes"]
        child = os.fork()
        if child == 0:
            code = 1
            try:
                store.insert(Item(id="child"))
            except StoreClosedError as error:
                code = 0 if "dead in this fork" in str(error) else 2
            finally:
                store.close()
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert store.stats()["wal_bytes"] == size
        with pytest.raises(StoreLockedError, match=f"pid {os.getpid()}"):
            opened(path)
        store.insert(Item(id="b"))
    assert ids(opened(path)) == "ab"


class NetworkDisk(OsFileSystem):
    """Says that every folder lies on NFS."""

    def network(self, path: str) -> str:
        return "nfs4"


def test_a_writer_on_a_network_folder_is_warned(tmp_path: Path) -> None:
    with pytest.warns(NetworkFolderWarning, match="lies on nfs4, .* move it to a local disk"):
        opened(tmp_path / "store", fs=NetworkDisk()).close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        T4DX.open(tmp_path / "store", read_only=True, fs=NetworkDisk()).close()
    assert OsFileSystem().network(str(tmp_path)) == ""
