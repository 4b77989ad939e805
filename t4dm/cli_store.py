"""The `t4dm store` verbs: what they take and say of themselves. Nothing heavy is imported before one runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

store_app = typer.Typer(
    no_args_is_help=True, help="Look into a store and look after it. Example: t4dm store stats RUN/store"
)

Store = Annotated[Path, typer.Argument(help="a store's folder")]
Json = Annotated[bool, typer.Option("--json", help="one JSON object, or one per line")]
Key = Annotated[
    Path | None,
    typer.Option("--key-file", envvar="T4DM_KEY_FILE", help="file with the key of a signed store"),
]
AsOf = Annotated[
    str, typer.Option(help="what was known and held then: 2026-03-01, 2026-03-01T12:00, or seconds")
]
Where = Annotated[str, typer.Option(help='a filter as JSON, for example \'{"type": "semantic"}\'')]
Force = Annotated[bool, typer.Option("--force", help="replace a file that exists")]


@store_app.command("stats")
def stats(path: Store, json: Json = False, key: Key = None) -> None:
    """Print counts, sizes, collections and the log sequence numbers of a store.

    Example: t4dm store stats outputs/train/first_night/RUN/store
    """
    from t4dm.apps import store_verbs

    store_verbs.stats(path, as_json=json, key=key)


@store_app.command("get")
def get(
    path: Store,
    id: Annotated[str, typer.Argument(help="an item's id, as `scan` prints it")],
    as_of: AsOf = "",
    json: Json = False,
    key: Key = None,
) -> None:
    """Print one item and its edges.

    Example: t4dm store get outputs/train/first_night/RUN/store ITEM
    """
    from t4dm.apps import store_verbs

    store_verbs.get(path, id, as_of=as_of, as_json=json, key=key)


@store_app.command("scan")
def scan(
    path: Store,
    limit: Annotated[int, typer.Option(help="how many items")] = 20,
    offset: Annotated[int, typer.Option(help="how many to leave out first")] = 0,
    type: Annotated[str, typer.Option(help="episodic, semantic or procedural; all where left out")] = "",
    where: Where = "",
    order: Annotated[str, typer.Option(help="a field; a leading - reverses it")] = "-record_time",
    as_of: AsOf = "",
    json: Json = False,
    key: Key = None,
) -> None:
    """Print items, the newest first: id, type, kappa, content.

    Example: t4dm store scan outputs/train/first_night/RUN/store --limit 5 --type semantic

    Example: t4dm store scan notes --where '{"where": {"user": "ann", "score": {"gte": 0.5}}}'
    """
    from t4dm.apps import store_verbs

    page = store_verbs.Page(limit=limit, offset=offset, order=order)
    store_verbs.scan(path, page, type=type, where=where, as_of=as_of, as_json=json, key=key)


@store_app.command("search")
def search(
    path: Store,
    vector: Annotated[str, typer.Option(help='a .npy file, or numbers: "0.1,0.2,..."')] = "",
    like: Annotated[str, typer.Option(help="instead, the id of an item whose vector is used")] = "",
    text: Annotated[str, typer.Option(help="words to look for; with a vector both count")] = "",
    fusion: Annotated[str, typer.Option(help="how vector and text are joined: weighted or rrf")] = "weighted",
    k: Annotated[int, typer.Option("-k", help="how many items")] = 10,
    where: Where = "",
    collection: Annotated[str, typer.Option(help="which vectors; with --like that of the item")] = "",
    as_of: AsOf = "",
    explain: Annotated[bool, typer.Option("--explain", help="also say how each part was searched")] = False,
    json: Json = False,
    key: Key = None,
) -> None:
    """Print the items nearest to a vector, those that answer a text, or those that do both, best first.

    Example: t4dm store search outputs/train/first_night/RUN/store --like ITEM -k 5

    Example: t4dm store search notes --text "who lives in Rome"

    Example: t4dm store search notes --vector query.npy --where '{"kappa": [0.2, null]}' --as-of 2026-03-01
    """
    from t4dm.apps import store_verbs

    query = store_verbs.Query(
        vector=vector,
        like=like,
        text=text,
        fusion=fusion,
        k=k,
        collection=collection,
        explain=explain,
    )
    store_verbs.search(path, query, where=where, as_of=as_of, as_json=json, key=key)


@store_app.command("timeline")
def timeline(
    path: Store,
    id: Annotated[str, typer.Argument(help="an item's id")],
    json: Json = False,
    key: Key = None,
) -> None:
    """Print the life of an item: its versions, its edges and the transactions they came in, by record time.

    Example: t4dm store timeline outputs/train/first_night/RUN/store ITEM
    """
    from t4dm.apps import store_verbs

    store_verbs.timeline(path, id, as_json=json, key=key)


@store_app.command("verify")
def verify(
    path: Store,
    level: Annotated[
        str, typer.Option(help="quick: names and sizes; full: every checksum; deep: every row")
    ] = "full",
    json: Json = False,
    key: Key = None,
) -> None:
    """Check the files of a store, also beside a writer; exit code 1 where something is wrong.

    Example: t4dm store verify outputs/train/first_night/RUN/store --level deep
    """
    from t4dm.apps import store_care

    store_care.verify(path, level, as_json=json, key=key)


@store_app.command("repair")
def repair(
    path: Store,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be done")] = False,
    json: Json = False,
    key: Key = None,
) -> None:
    """Make a damaged store open again: nothing is deleted, every loss is counted; exit code 1 after damage.

    Example: t4dm store repair notes --dry-run
    """
    from t4dm.apps import store_care

    store_care.repair(path, dry_run=dry_run, as_json=json, key=key)


@store_app.command("backup")
def backup(
    path: Store,
    target: Annotated[Path, typer.Argument(help="a new folder for the copy")],
    copy: Annotated[
        bool, typer.Option("--copy", help="copy every byte, share no file with the store")
    ] = False,
    json: Json = False,
    key: Key = None,
) -> None:
    """Copy a store into a new folder, also beside a writer, and verify the copy.

    Example: t4dm store backup notes notes-monday
    """
    from t4dm.apps import store_care

    store_care.backup(path, target, link=not copy, as_json=json, key=key)


@store_app.command("restore")
def restore(
    backup: Annotated[Path, typer.Argument(help="a backup's folder")],
    target: Annotated[Path, typer.Argument(help="a new folder for the store")],
    json: Json = False,
    key: Key = None,
) -> None:
    """Make a store of a backup in a new folder, and verify it.

    Example: t4dm store restore notes-monday notes-again
    """
    from t4dm.apps import store_care

    store_care.restore(backup, target, as_json=json, key=key)


@store_app.command("export")
def export(
    path: Store,
    file: Annotated[Path, typer.Argument(help="a new .jsonl or .parquet file")],
    history: Annotated[bool, typer.Option("--history", help="all versions ever recorded")] = False,
    vectors: Annotated[str, typer.Option(help="base64, list or none")] = "base64",
    force: Force = False,
    json: Json = False,
    key: Key = None,
) -> None:
    """Write all items and edges to a file, one JSON object a line, or as Parquet.

    Example: t4dm store export notes notes.jsonl --history
    """
    from t4dm.apps import store_care

    form = store_care.Form(history=history, vectors=vectors, force=force)
    store_care.export(path, file, form, as_json=json, key=key)


@store_app.command("import")
def import_(
    path: Annotated[Path, typer.Argument(help="a store's folder; a new one is made")],
    file: Annotated[
        Path, typer.Argument(help="a .jsonl or .parquet file: an export, or lines with id and text")
    ],
    dim: Annotated[
        int | None, typer.Option(help="vector size of a new store; the file's where left out")
    ] = None,
    collection: Annotated[str, typer.Option(help="where lines that are no export go")] = "default",
    batch: Annotated[int, typer.Option(help="lines per transaction")] = 1000,
    json: Json = False,
    key: Key = None,
) -> None:
    """Store the lines of a file. After Ctrl-C run it again: what is there already is left alone.

    Example: t4dm store import notes notes.jsonl
    """
    from t4dm.apps import store_care

    store_care.import_(path, file, dim=dim, collection=collection, batch=batch, as_json=json, key=key)


@store_app.command("compact")
def compact(path: Store, json: Json = False, key: Key = None) -> None:
    """Merge the segments of a store and drop what was deleted; no answer changes.

    Example: t4dm store compact notes
    """
    from t4dm.apps import store_care

    store_care.compact(path, as_json=json, key=key)
