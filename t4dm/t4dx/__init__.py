"""T4DX: an embedded bitemporal vector and graph store. numpy and msgpack only; it knows nothing of brains."""

from t4dm.t4dx.backup import backup_store, restore_store
from t4dm.t4dx.bm25 import Bm25
from t4dm.t4dx.edge_reads import Neighbour
from t4dm.t4dx.engine import T4DX
from t4dm.t4dx.export import export_store
from t4dm.t4dx.facets import Facet
from t4dm.t4dx.filters import EdgeFilter, Filter
from t4dm.t4dx.fusion import Spread
from t4dm.t4dx.imports import Imported, import_store
from t4dm.t4dx.operators import AffineClip
from t4dm.t4dx.predicates import F, Predicate
from t4dm.t4dx.reader import Reader
from t4dm.t4dx.repair import RepairReport, repair_store
from t4dm.t4dx.tokens import Analyzer
from t4dm.t4dx.transaction import Transaction
from t4dm.t4dx.types import (
    BOTH,
    IN,
    ITEM_TYPES,
    OUT,
    UNSET,
    AsOf,
    Collection,
    Direction,
    Edge,
    EdgeType,
    Hit,
    Hits,
    Item,
    Lsn,
    Options,
    Path,
    Paths,
    new_id,
)
from t4dm.t4dx.undo import TransactionInfo
from t4dm.t4dx.verify import Report, verify_folder, verify_store

__all__ = [
    "BOTH",
    "IN",
    "ITEM_TYPES",
    "OUT",
    "T4DX",
    "UNSET",
    "AffineClip",
    "Analyzer",
    "AsOf",
    "Bm25",
    "Collection",
    "Direction",
    "Edge",
    "EdgeFilter",
    "EdgeType",
    "F",
    "Facet",
    "Filter",
    "Hit",
    "Hits",
    "Imported",
    "Item",
    "Lsn",
    "Neighbour",
    "Options",
    "Path",
    "Paths",
    "Predicate",
    "Reader",
    "RepairReport",
    "Report",
    "Spread",
    "Transaction",
    "TransactionInfo",
    "backup_store",
    "export_store",
    "import_store",
    "new_id",
    "repair_store",
    "restore_store",
    "verify_folder",
    "verify_store",
]
