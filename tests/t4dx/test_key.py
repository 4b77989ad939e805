"""A store signed with a user's key: what a stranger without it can change unseen."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

import pytest
from simulated_fs import SimulatedFileSystem

from t4dm.errors import CorruptionError, OptionError, StoreKeyError
from t4dm.t4dx import T4DX, Item, Options, manifest, wal
from t4dm.t4dx.journal import Journal
from t4dm.t4dx.seal import Seal

KEY = b"a key of 32 bytes for the tests!"
OS = Options(durability="os")


def opened(fs: SimulatedFileSystem, *, key: bytes | None = KEY, read_only: bool = False) -> T4DX:
    return T4DX.open("store", dim=2, options=OS, fs=fs, key=key, clock=lambda: 5.0, read_only=read_only)


def journal(store: T4DX) -> Journal:
    assert store._journal is not None
    return store._journal


def records(data: bytes) -> list[bytes]:
    """The framed records of a signed log, MACs included."""
    at, found = wal.FILE_HEADER, []
    while (head := wal.read_head(memoryview(data)[at : at + wal.HEAD])) is not None:
        size = wal.RECORD_OVERHEAD + head.length + 32
        found.append(data[at : at + size])
        at += size
    return found


def ids(fs: SimulatedFileSystem, **kw: object) -> list[str]:
    with opened(fs, **kw) as store:
        return sorted(item.id for item in store.scan())


def two_logs() -> SimulatedFileSystem:
    """Three items in a first log, two in a second; nothing flushed."""
    fs = SimulatedFileSystem()
    store = opened(fs)
    for name in "abc":
        store.insert(Item(id=name, content=name))
    journal(store).rotate()
    for name in "de":
        store.insert(Item(id=name, content=name))
    return fs.after_crash("all")


def log(number: int) -> str:
    return f"store/{wal.wal_name(number)}"


def rebuilt(data: bytes, framed: list[bytes]) -> bytes:
    return data[: wal.FILE_HEADER] + b"".join(framed)


def test_the_mac_is_hmac_sha256_over_the_mac_before_and_the_record() -> None:
    fs = two_logs()
    data = fs.read(log(1))
    first, second = records(data)[:2]
    header = data[: wal.FILE_HEADER]
    assert header[-32:] == hmac.new(KEY, header[:-32], hashlib.sha256).digest()
    assert first[-32:] == hmac.new(KEY, header[-32:] + first[:-32], hashlib.sha256).digest()
    assert second[-32:] == hmac.new(KEY, first[-32:] + second[:-32], hashlib.sha256).digest()


def test_a_signed_store_survives_crashes_flushes_and_rotations() -> None:
    fs = two_logs()
    with opened(fs) as store:
        assert store.count() == 5
        store.flush()
        store.insert(Item(id="f"))
        assert store.verify("deep").ok
        store.backup("copy")
    assert ids(fs) == ["a", "b", "c", "d", "e", "f"]
    assert T4DX.open("copy", options=OS, fs=fs, key=KEY, read_only=True).count() == 6


@pytest.mark.parametrize("read_only", [False, True])
def test_without_the_key_or_with_another_one_nothing_is_read(read_only: bool) -> None:
    fs = two_logs()
    with pytest.raises(StoreKeyError, match=r"is signed with a key; .*T4DX\.open\('store', key=\.\.\.\)"):
        opened(fs, key=None, read_only=read_only)
    with pytest.raises(StoreKeyError, match=r"another key, or was changed .*with the right key"):
        opened(fs, key=b"x" * 32, read_only=read_only)
    plain = SimulatedFileSystem()
    opened(plain, key=None).close()
    with pytest.raises(StoreKeyError, match=r"made without a key; open it with none: T4DX\.open\('store'\)"):
        opened(plain, read_only=read_only)


@pytest.mark.parametrize("key", [b"short", "a string that is long enough"])
def test_a_key_that_is_none_is_refused(key: object) -> None:
    with pytest.raises(OptionError, match=r"at least 16 secret bytes, for example key=os\.urandom\(32\)"):
        Seal(key)  # type: ignore[arg-type]


def forged(record: bytes, salt: bytes) -> bytes:
    """Another content with the right checksum, as anybody can make it; the MAC is the old one."""
    body = record[: -wal.RECORD_OVERHEAD + wal.HEAD - 32].replace(b"\xa1b", b"\xa1z")
    assert body != record[: len(body)]
    head = wal.read_head(memoryview(body)[: wal.HEAD])
    assert head is not None
    framed = wal.encode(head.kind, head.lsn, head.ops, head.durable, body[wal.HEAD :], salt)
    return framed + record[-32:]


CHANGES: dict[str, Callable[[list[bytes], bytes], list[bytes]]] = {
    "changed": lambda r, salt: [r[0], forged(r[1], salt), *r[2:]],
    "mac removed": lambda r, salt: [r[0], r[1][:-32] + bytes(32), *r[2:]],
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_record_with_the_right_checksum_is_refused(change: str) -> None:
    fs = two_logs()
    data = fs.read(log(1))
    salt = wal.read_header(data, "log", Seal(KEY)).salt
    fs._file(log(1)).data[:] = rebuilt(data, CHANGES[change](records(data), salt))
    with pytest.raises(CorruptionError, match="not signed with this key at this place"):
        ids(fs)


def renumbered(record: bytes, lsn: int, salt: bytes) -> bytes:
    head = wal.read_head(memoryview(record)[: wal.HEAD])
    assert head is not None
    payload = record[wal.HEAD : wal.HEAD + head.length]
    return wal.encode(head.kind, lsn, head.ops, head.durable, payload, salt) + record[-32:]


def test_reordered_replayed_and_dropped_records_are_refused_even_with_new_numbers() -> None:
    fs = two_logs()
    data = fs.read(log(1))
    a, b, c, end = records(data)
    salt = wal.read_header(data, "log", Seal(KEY)).salt
    for changed in (
        [renumbered(b, 1, salt), renumbered(a, 2, salt), c, end],  # reordered
        [a, renumbered(a, 2, salt), c, end],  # replayed
        [a, renumbered(c, 2, salt), renumbered(end, 3, salt)],  # dropped
    ):
        broken = fs.after_crash("all")
        broken._file(log(1)).data[:] = rebuilt(data, changed)
        with pytest.raises(CorruptionError, match="not signed with this key at this place"):
            ids(broken)


@pytest.mark.parametrize("kept", [0, 1, 2, 3])
def test_a_log_cut_at_a_record_boundary_in_the_middle_of_the_chain_is_refused(kept: int) -> None:
    fs = two_logs()
    data = fs.read(log(1))
    fs._file(log(1)).data[:] = rebuilt(data, records(data)[:kept]) + bytes(1000)
    with pytest.raises(CorruptionError, match=r"ends at byte \d+, but wal-0+2\.log goes on behind it"):
        ids(fs)


def test_a_log_spliced_in_from_another_life_of_the_same_store_is_refused() -> None:
    fs = SimulatedFileSystem()
    store = opened(fs)
    store.insert(Item(id="a"))
    other = fs.after_crash("all")
    other.tokens.seed(77)
    for disk, live in ((fs, store), (other, opened(other))):
        journal(live).rotate()
        live.insert(Item(id=f"b{disk is fs}"))
    broken = fs.after_crash("all")
    broken._file(log(2)).data[:] = other.read(log(2))
    with pytest.raises(CorruptionError, match="does not follow the one before it"):
        ids(broken)


def test_an_unsigned_log_in_a_signed_store_is_refused() -> None:
    fs, plain = two_logs(), SimulatedFileSystem()
    opened(plain, key=None).close()
    fs._file(log(1)).data[:] = plain.read(log(1))
    with pytest.raises(CorruptionError, match="names another algorithm"):
        ids(fs)
    fs = two_logs()
    fs._file(log(1)).data[wal.FILE_HEADER - 1] ^= 1
    with pytest.raises(CorruptionError, match="header is not signed with this key"):
        ids(fs)


def test_an_edited_manifest_is_refused_although_its_checksum_was_made_right() -> None:
    fs = two_logs()
    found = manifest.load(fs, "store", Seal(KEY))
    assert found is not None
    path = f"store/{manifest.manifest_name(found.version)}"
    mac = fs.read(path).partition(b"\n")[0].split(b" ")[3].decode()
    body = manifest.encode(found.next(edge_types=("EVIL",))).partition(b"\n")[2]
    line = f"T4DX {manifest.FORMAT} {manifest._crc(manifest.FORMAT, body, mac):08x} {mac}\n"
    fs._file(path).data[:] = line.encode() + body
    with pytest.raises(StoreKeyError, match="was changed by someone without it"):
        ids(fs)
