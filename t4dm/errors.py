"""Every exception a user can meet. One class per mistake; each message ends with what to type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class T4DMError(Exception):
    """Base of all errors that the command line prints as one line, without a traceback."""


class SettingError(T4DMError, ValueError):
    """A setting has a value that its class cannot work with.

    Args:
        field: its dotted path in the config.
        value: what it is.
        fix: what to set; it ends the message.
    """

    def __init__(self, field: str, value: object, fix: str) -> None:
        super().__init__(f"{field}={value} does not work; {fix}")


class MissingExtra(T4DMError):
    """An optional dependency is not installed.

    Args:
        package: the import that failed, for example `"bitsandbytes"`.
        extra: the extra of this project that brings it, for example `"gpu"`.
    """

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"{package} is not installed; run: pip install 't4dm[{extra}]'")


class WindowTooShortError(T4DMError):
    """A recall window does not hold what the task puts into it."""

    def __init__(self, room: int, needed: int, *, what: str = "tokens") -> None:
        field = {"tokens": "data.length", "reads": "data.reads", "writes": "data.writes"}[what]
        super().__init__(
            f"a recall window needs {needed} {what} but has room for {room}; set {field}={needed} or more"
        )


class DataFileMissingError(T4DMError):
    """A text file or glob names no file."""

    def __init__(self, pattern: str) -> None:
        super().__init__(
            f"no file matches {pattern!r}; set data.files to the path of a .txt, .jsonl or .parquet file"
        )


class DataFormatError(T4DMError):
    """A data file cannot be read as what its name says."""

    def __init__(self, path: str, problem: str, *, fix: str) -> None:
        super().__init__(f"{path}: {problem}; {fix}")


class DataFieldMissingError(T4DMError):
    """A record holds no text under the configured field."""

    def __init__(self, where: str, field: str, present: list[str]) -> None:
        named = ", ".join(present) or "no field at all"
        super().__init__(
            f"{where} has no text under {field!r} but {named}; set data.field to the one that holds the text"
        )


class TextEncodingError(T4DMError):
    """A text file is not UTF-8."""

    def __init__(self, path: str, offset: int, *, encoding: str = "LATIN1") -> None:
        super().__init__(
            f"{path} is not UTF-8 at byte {offset}; convert it: iconv -f {encoding} -t UTF-8 {path} > "
            f"{path}.utf8"
        )


class TextEmptyError(T4DMError):
    """The text sources hold no token, or too few documents to hold one out."""

    def __init__(self, source: str, found: str) -> None:
        super().__init__(f"{source} holds {found}; add text with data.files=[...]")


class TextSourceError(T4DMError):
    """Neither or both of files and hub were named."""

    def __init__(self) -> None:
        super().__init__("name one source of text: either data.files=[book.txt] or data.hub=owner/name")


class HubDatasetError(T4DMError):
    """A hub data set cannot be had."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(
            f"cannot load the data set {name!r} from the hub ({problem}); "
            "connect to the network once, or use your own files: data.files=[book.txt]"
        )


class TokenOutOfVocabularyError(T4DMError):
    """A token id does not belong to the vocabulary that the lexical keys were made for."""

    def __init__(self, *, token: int, vocab_size: int) -> None:
        super().__init__(
            f"token id {token} lies outside the vocabulary of {vocab_size} that the lexical keys were "
            "made for; "
            "encode with the same tokenizer, or build the embedder with vocab_size=len(tokenizer)"
        )


class GateStateError(T4DMError):
    """A temporal gate's saved state has another number of features."""

    def __init__(self, *, found: int, expected: int) -> None:
        super().__init__(
            f"the saved temporal gate weighs {found} features, this one {expected}; "
            f"build it with weights of length {found}, or start the gate afresh"
        )


class ConfigError(T4DMError):
    """A config does not fit the classes it names; every problem at once, each with its dotted path.

    Args:
        problems: one sentence each, starting with the dotted path and ending with the fix.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        head = "" if len(problems) == 1 else f"{len(problems)} problems in the config:\n  "
        super().__init__(head + "\n  ".join(problems))


class OverrideError(T4DMError):
    """Hydra refused what was typed after the verb."""

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(f"{problem}; {fix}")


class UnknownConfigError(T4DMError):
    """No config file has that name."""

    def __init__(self, name: str, choices: list[str]) -> None:
        super().__init__(f"no config {name!r}; choose one of: {', '.join(choices)}")


class FolderExistsError(T4DMError):
    """A command would write over files that are there."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} exists and is not empty; name a new folder, or remove it: rm -r {path}")


class NoTextError(T4DMError):
    """A text to look at holds nothing to read."""

    def __init__(self) -> None:
        super().__init__("there is no text to read; put it in quotes: t4dm study block 'Ann lives in Rome.'")


class TextTooLongError(T4DMError):
    """A text to look at has more tokens than one page shows, or than the backbone has positions for."""

    def __init__(self, tokens: int, limit: int, *, characters: int) -> None:
        super().__init__(
            f"the text has {tokens} tokens and a study reads at most {limit}; "
            f"cut it after its first {characters} characters"
        )


class NoPromptError(T4DMError):
    """A prompt holds no token to go on from."""

    def __init__(self) -> None:
        super().__init__(
            "the prompt is empty; put a text in quotes: t4dm generate run=RUN prompt='Ann lives in'"
        )


class PromptTooLongError(T4DMError):
    """A prompt has more tokens than the backbone has positions for."""

    def __init__(self, tokens: int, limit: int) -> None:
        super().__init__(
            f"the prompt has {tokens} tokens and the model reads at most {limit}; shorten it to its last "
            f"{limit} tokens, or tell the rest before, in parts, to a memory: t4dm chat RUN"
        )


class PositionError(T4DMError):
    """A trace was asked to look at a token that the prompt does not have."""

    def __init__(self, position: int, tokens: int) -> None:
        super().__init__(
            f"the prompt has {tokens} tokens, numbered from 0, so none at {position}; "
            f"for its last one: --position {tokens - 1}"
        )


class BrokenLogitsError(T4DMError):
    """The model gives NaN instead of logits."""

    def __init__(self) -> None:
        super().__init__(
            "the model's logits are not numbers (NaN), so its weights are broken; name a run whose losses "
            "are finite: t4dm runs ls"
        )


class BlockChoiceError(T4DMError):
    """A study was asked for blocks that the stack does not have."""

    def __init__(self, typed: str, count: int) -> None:
        known = "0" if count == 1 else f"0 to {count - 1}"
        some = "0" if count == 1 else f"0,{count - 1}"
        super().__init__(f"no blocks {typed!r}: the stack has {known}; write for example: --blocks {some}")


class NoStackError(T4DMError):
    """A model that is a bare backbone was asked for what only a stack has."""

    def __init__(self) -> None:
        super().__init__(
            "this model has no cortical stack to look into; "
            "name a run that was trained with one, without ablation=no_stack: t4dm runs ls"
        )


class SeedOfARunError(T4DMError):
    """A seed was given for the weights of a model that has its weights from a run."""

    def __init__(self, run: str) -> None:
        super().__init__(
            f"{run} brings its own weights, a seed would change nothing; "
            f"leave --seed out: t4dm study block TEXT --run {run}"
        )


class RunFolderError(T4DMError):
    """A path is not a run folder, or lacks the file that was asked for."""

    def __init__(self, path: str, lacks: str) -> None:
        super().__init__(f"{path} is no run folder: it has no {lacks}; list them: t4dm runs ls")


class NoRunsError(T4DMError):
    """There is no run below a folder."""

    def __init__(self, root: str, *, kind: str = "run") -> None:
        super().__init__(f"no {kind} below {root}; start one: t4dm train experiment=first_night")


class NoStoreError(T4DMError):
    """A path given to a `store` verb is no store's folder.

    Args:
        path: as typed.
        fix: what to type; it ends the message.
    """

    def __init__(self, path: str, *, fix: str) -> None:
        super().__init__(f"no store at {path}; {fix}")


class ResumeMismatchError(T4DMError):
    """A resumed run may change its trainer and its loggers, nothing else.

    Args:
        changed: dotted path -> (value of the run, value typed).
    """

    def __init__(self, folder: str, changed: dict[str, tuple[object, object]]) -> None:
        diff = ", ".join(f"{path}: {old} -> {new}" for path, (old, new) in changed.items())
        super().__init__(
            f"resume may change only trainer.* and logger.*, not {diff}; "
            f"take these out: t4dm train resume={folder}, or start a new run without resume"
        )


class DevicesError(T4DMError):
    """More than one device was asked for; the store has one writer."""

    def __init__(self, devices: object) -> None:
        super().__init__(f"trainer.devices={devices}: the memory store has one writer; set trainer.devices=1")


class NoGpuError(T4DMError):
    """A GPU is asked for on a machine where torch finds none."""

    def __init__(self, setting: str = "trainer.accelerator=gpu") -> None:
        super().__init__(
            f"{setting}: torch finds no GPU on this machine; see what fits it: t4dm doctor, "
            "or set trainer=cpu model.backbone.device=cpu"
        )


class DiskFullError(T4DMError):
    """The disk refused a write.

    Args:
        path: the run folder.
        free_mib: what is free on its disk.
        resumable: whether it holds a checkpoint to go on from.
    """

    def __init__(self, path: str, free_mib: float, *, resumable: bool = True) -> None:
        again = f"t4dm train resume={path}" if resumable else "t4dm train ..."
        super().__init__(
            f"no space left on the disk of {path} ({free_mib:.0f} MiB free), nothing written before is lost; "
            f"free some, or put the runs elsewhere: T4DM_OUTPUTS=/big/disk {again}"
        )


class BrokenRunFileError(RunFolderError):
    """A file of a run folder does not hold what its name promises.

    Args:
        path: the file.
        reason: what is wrong in it, for example `"line 3 is not JSON"`.
    """

    def __init__(self, path: object, reason: str) -> None:
        T4DMError.__init__(
            self,
            f"{path} is broken: {reason}; restore it from a copy, or move it out of the run folder and "
            "try again",
        )


class ReportNotWrittenError(RunFolderError):
    """The report could not be saved: no space, or no right to write there.

    Args:
        path: the file that could not be written.
        reason: what the operating system said.
    """

    def __init__(self, path: object, reason: str) -> None:
        T4DMError.__init__(
            self,
            f"cannot write {path}: {reason}; free some space or fix its permissions, then run: t4dm runs "
            "report",
        )


class BackboneUnavailableError(T4DMError):
    """A backbone is neither on this machine nor reachable."""

    def __init__(self, name: str, revision: str | None) -> None:
        at = f" at revision {revision}" if revision else ""
        super().__init__(
            f"the backbone {name}{at} is not on this machine and cannot be fetched; connect to the "
            "network once, "
            f"give a folder that holds it, or run with: model=tiny"
        )


class UnsupportedBackboneError(T4DMError):
    """A model is no decoder of a kind whose layers the stack can be put between."""

    def __init__(self, name: str, found: str, known: Sequence[str]) -> None:
        super().__init__(
            f"{name} is a {found}, and the stack fits decoders of type {', '.join(known)}; "
            "take one of these, for example: model=qwen25_05b"
        )


class BackboneTooLargeError(T4DMError):
    """The weights of a backbone do not fit into the memory that is free; nothing was loaded.

    Args:
        name: of the backbone.
        need: GiB of its weights.
        free: GiB on the device.
        device: where they should go.
        smaller: GiB of the weights in 4 bits, where these would fit.
    """

    def __init__(
        self, name: str, *, need: float, free: float, device: str, smaller: float | None = None
    ) -> None:
        place = "this machine" if device == "cpu" else device
        fix = "free some, or run with: model=tiny"
        if smaller is not None:
            fix = f"in 4 bits they need {smaller:.2f} GiB: model.backbone.quantize=nf4"
        super().__init__(
            f"the weights of {name} need {need:.2f} GiB and {place} has {free:.2f} GiB free; {fix}"
        )


class BackboneMismatchError(T4DMError):
    """What was trained on one backbone is put onto another.

    Args:
        what: is refused, with its path.
        trained_on: `Backbone.identity` then.
        here: `Backbone.identity` now.
    """

    def __init__(self, what: str, *, trained_on: Mapping[str, Any], here: Mapping[str, Any]) -> None:
        then, now = (
            f"{b['name']}{' at ' + b['revision'][:12] if b['revision'] else ''} ({b['type']}, "
            f"{b['layers']} layers of {b['width']}, weights {b['weights']})"
            for b in (trained_on, here)
        )
        pin = f" model.backbone.revision={trained_on['revision']}" if trained_on["revision"] else ""
        super().__init__(
            f"{what} was trained on {then}, not on {now}; set model.backbone.name={trained_on['name']}{pin}"
        )


class LoraMismatchError(T4DMError):
    """A checkpoint's LoRA has another rank, or other targets, than the model it is loaded into."""

    def __init__(self, *, field: str, found: str, here: str) -> None:
        super().__init__(
            f"the checkpoint's LoRA has {field} {found}, the model's has {here}; "
            f"set model.lora.{field}={found}"
        )


class NoLoraError(T4DMError):
    """A run that has no LoRA was asked to merge it."""

    def __init__(self, run: str) -> None:
        super().__init__(
            f"{run} was trained without LoRA, so there is nothing to merge; "
            f"hand on its stack instead: t4dm export {run} OUT"
        )


class ExportBrokenError(T4DMError):
    """A folder is no whole export."""

    def __init__(self, path: object, problem: str) -> None:
        super().__init__(f"{path} is no whole export: {problem}; write it anew: t4dm export RUN {path}")


class InsertionPointError(T4DMError):
    """The stack is to be inserted where the backbone has no layer."""

    def __init__(self, layer: int, layers: int) -> None:
        super().__init__(
            f"cannot insert before layer {layer} of a backbone of {layers} layers; "
            f"set model.memory_lm.insert_at to a number from 1 to {layers - 1}"
        )


class LoraTargetError(T4DMError):
    """LoRA targets that name no linear layer."""

    def __init__(self, unknown: list[str], known: list[str]) -> None:
        super().__init__(
            f"no linear layer is named {', '.join(unknown)}; choose model.lora.targets among "
            f"{', '.join(known)}"
        )


class FilterError(T4DMError):
    """A store filter was given something it cannot mean."""


class ItemError(T4DMError):
    """An item was refused at the door of the store, before anything was logged."""


class EdgeError(T4DMError):
    """An edge was refused at the door of the store, before anything was logged."""


class VectorError(T4DMError):
    """A vector has the wrong dimension, or values that are not finite numbers."""


class TextQueryError(T4DMError):
    """A text search was given what is no text, or settings that no word can be found with."""


class FusionError(T4DMError):
    """A hybrid search was told to join or to spread scores in a way that there is not."""


class ItemNotFoundError(T4DMError):
    """An update or a delete named an item that the store does not hold."""

    def __init__(self, item_id: str) -> None:
        super().__init__(f"no item {item_id!r} in the store; look it up first: store.get({item_id!r})")


class EdgeNotFoundError(T4DMError):
    """An update named an edge that the store does not hold."""

    def __init__(self, source: str, target: str, edge_type: str | None) -> None:
        kind = "any type" if edge_type is None else f"type {edge_type}"
        super().__init__(
            f"no edge {source!r} -> {target!r} of {kind}; list them: store.edges(source={source!r})"
        )


class TransactionError(T4DMError):
    """A transaction was used after it ended."""


class UnknownTransactionError(TransactionError):
    """No transaction with that id is remembered."""

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(
            f"no transaction {name!r} is remembered ({', '.join(known) or 'there is none'}); "
            "name one of store.transactions(), or keep more of them: Options(undo_keep=64)"
        )


class UndoConflictError(TransactionError):
    """A later write touched what an undo would restore."""

    def __init__(self, name: str, what: str, lsn: int, cause: str) -> None:
        by, fix = f"by transaction {cause!r}", f"undo that one first: store.undo({cause!r})"
        if not cause:
            by, fix = "by a later write", "take the values from a snapshot or a backup and write them anew"
        super().__init__(
            f"transaction {name!r} cannot be undone: {what} was changed at LSN {lsn} {by}; {fix}"
        )


class StoreError(T4DMError):
    """Base of what can go wrong with a store on disk."""


class StoreLockedError(StoreError):
    """Another process, or another handle of this one, writes to the store."""

    def __init__(self, path: str, owner: str) -> None:
        self.owner = owner or "another process"
        super().__init__(
            f"the store {path} is open for writing by {self.owner}; close it there, "
            "or open it for reading: T4DX.open(path, read_only=True)"
        )


class StoreFormatError(StoreError):
    """The store was written by a newer version of the project."""

    def __init__(self, path: str, found: str, known: str) -> None:
        super().__init__(
            f"the store {path} has format {found}, this version reads {known}; install a newer one: pip "
            "install -U t4dm"
        )


class StoreFullError(StoreError):
    """The disk of the store is full."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"no space left for {path}; nothing acknowledged is lost, free some space and repeat the write"
        )


class CorruptionError(StoreError):
    """Bytes of the store are not what was written; nothing is guessed."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(
            f"{path}: {problem}; nothing was changed, restore the store from a copy made with "
            "store.backup(folder)"
        )


class StorePoisonedError(StoreError):
    """A write or an fsync failed, so that nobody knows what the disk holds; the handle only reads now."""

    def __init__(self, path: str, cause: str) -> None:
        super().__init__(
            f"the store {path} refuses writes after a failed one ({cause}); close it and open it again"
        )


class NetworkFolderWarning(UserWarning):
    """A store is opened for writing on a network file system, where locks may not hold between machines."""

    def __init__(self, path: str, kind: str) -> None:
        super().__init__(
            f"the store {path} lies on {kind}, where locks and fsync may not hold; move it to a local disk, "
            "or make sure that no other machine opens it"
        )


class GraphLibraryWarning(UserWarning):
    """The library that should search large segments is not installed, or cannot be imported."""

    def __init__(self, wanted: str, found: str) -> None:
        package = {"faiss": "faiss-cpu"}.get(wanted, wanted)
        instead = f"{found} searches instead of it" if found else "searches are exact, and slower"
        super().__init__(f"{wanted} cannot be imported, {instead}; type: pip install {package}")


class StoreKeyError(StoreError):
    """A signed store was opened without its key or with another one, or an unsigned one with a key."""

    def __init__(self, path: str, *, signed: bool, given: bool) -> None:
        if signed and given:
            problem, fix = "is signed with another key, or was changed by someone without it", "the right key"
        elif signed:
            problem, fix = "is signed with a key", f"it: T4DX.open({path!r}, key=...)"
        else:
            problem, fix = "was made without a key", f"none: T4DX.open({path!r})"
        super().__init__(f"the store {path} {problem}; open it with {fix}")


class StoreClosedError(StoreError):
    """A store was used after it was closed, or in a forked child."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"the store {path} {why}; open it again: T4DX.open({path!r})")


class ReadOnlyStoreError(StoreError):
    """A write to a store that was opened for reading."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"the store {path} was opened with read_only=True; open it for writing: T4DX.open({path!r})"
        )


class StoreMissingError(StoreError):
    """There is no store, and nothing says how to make one."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"no store at {path}; create one by naming the vector size: T4DX.open({path!r}, dim=1024)"
        )


class StoreDimensionError(StoreError):
    """A store was opened with another vector size than it was created with."""

    def __init__(self, path: str, found: int, asked: int) -> None:
        super().__init__(
            f"the store {path} holds vectors of size {found}, not {asked}; open it with dim={found}"
        )


class StoreMetricError(StoreError):
    """A store was opened with another metric than it was created with."""

    def __init__(self, path: str, found: str, asked: str) -> None:
        super().__init__(
            f"the store {path} compares vectors by {found}, not {asked}; open it with metric={found!r}"
        )


class UnknownCollectionError(StoreError):
    """No collection of a store has that name."""

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(
            f"no collection {name!r} (there is {', '.join(known)}); "
            f"make it first: store.create_collection({name!r}, dim=1024)"
        )


class CollectionExistsError(StoreError):
    """A collection exists with another vector size or metric."""

    def __init__(self, name: str, dim: int, metric: str) -> None:
        super().__init__(
            f"collection {name!r} exists with dim={dim} and metric={metric!r}; use these, or another name"
        )


class OptionError(T4DMError):
    """A store option has a value that does not exist."""


class UnknownSurrogateError(T4DMError):
    """No surrogate derivative has that name."""

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(
            f"no surrogate is called {name!r}; set model.stack.surrogate to one of {', '.join(known)}"
        )


class UnknownBackendError(T4DMError):
    """A kernel backend was asked for that this build does not have.

    Args:
        kernel: of which one.
        name: what was asked for.
        known: what there is.
        setting: its name in a config.
    """

    def __init__(self, kernel: str, name: str, known: list[str], *, setting: str) -> None:
        super().__init__(
            f"the {kernel} kernel has no backend {name!r}; pass backend= one of {', '.join(known)}, "
            f"in a config ++{setting}=auto"
        )


class StackShapeError(T4DMError):
    """The widths of a cortical stack do not divide as its heads and capsules need."""

    def __init__(self, field: str, value: int, divisor: str, by: int) -> None:
        super().__init__(
            f"{field}={value} does not divide into {divisor}={by} equal parts; "
            f"set {field} to a multiple of {by}, for example {max(by, -(-value // by) * by)}"
        )


class UnknownNeuronError(T4DMError):
    """A stack was asked for a neuron it does not have."""

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f"no neuron is called {name!r}; set model.stack.neuron to one of {', '.join(known)}")


class CalibrationError(T4DMError):
    """No input gain makes a layer fire at its target rate."""

    def __init__(self, layer: str, rate: float, target: float) -> None:
        super().__init__(
            f"{layer} fires at {rate:.1%} instead of {target:.1%} whatever its gain; calibrate on real text: "
            "stack.calibrate(h) with a hundred tokens or more that differ from each other, "
            "or train without: ++phase.calibrate=false"
        )


class JobFailedError(T4DMError):
    """A run stopped for a reason that no other class here foresees."""

    def __init__(self, error: BaseException, folder: str) -> None:
        reason = (str(error).splitlines() or [""])[0]
        super().__init__(f"{type(error).__name__}: {reason}; the traceback: cat {folder}/FAILED")


class UnknownItemError(T4DMError):
    """No item of the store has that id."""

    def __init__(self, id: str, store: str) -> None:
        super().__init__(f"no item {id!r} in {store}; list ids: t4dm store scan {store}")


class BundleCorruptError(T4DMError):
    """A checkpoint bundle is not what was written."""

    def __init__(self, *, path: object, problem: str) -> None:
        super().__init__(
            f"the checkpoint {path} is broken: {problem}; "
            f"remove it and start from an older one beside it: rm -r {path}"
        )


class BundleFormatError(T4DMError):
    """A checkpoint bundle was written by a newer version."""

    def __init__(self, *, path: object, found: int, known: int) -> None:
        super().__init__(
            f"the checkpoint {path} has format {found}, this version reads up to {known}; "
            "install a newer one: pip install -U t4dm"
        )


class BundleStateError(T4DMError):
    """A checkpoint was given state that is not plain."""

    def __init__(self, *, problem: str) -> None:
        super().__init__(
            f"the state of a checkpoint must be plain values, but {problem}; "
            "pass tensors as tensors=, and numbers, strings, lists and dicts as state="
        )


class UnknownQueryError(T4DMError):
    """A graph was asked for a query template it does not have."""

    def __init__(self, *, name: str, known: list[str]) -> None:
        super().__init__(
            f"there is no query {name!r}; use one of {', '.join(known)}, or add it with "
            f"register({name!r}, function)"
        )


class LearningRuleError(T4DMError):
    """A learning rule was given a setting or a tensor that it cannot work with; the message says which
    and what to set."""


class ModelMismatchError(T4DMError):
    """A checkpoint was made by another model than the one it is loaded into."""

    def __init__(self, difference: str) -> None:
        super().__init__(
            f"the checkpoint fits another model: {difference}; restore the config.yaml of its run and the "
            "version of t4dm that made it, or train it anew: t4dm train experiment=first_night"
        )
        self.difference = difference


class BeginningMismatchError(T4DMError):
    """A run is to begin with the weights of another one, whose model is not the same."""

    def __init__(self, folder: str, difference: str) -> None:
        super().__init__(
            f"init_from={folder} fits another model: {difference}; give this run the model of that one, "
            f"which tells it by: t4dm runs show {folder}"
        )


class CheckpointMissingError(T4DMError):
    """There is no checkpoint bundle at a path."""

    def __init__(self, path: str) -> None:
        super().__init__(f"no checkpoint at {path}; see which there are: ls <run folder>/checkpoints")


class NonFiniteLossError(T4DMError):
    """The loss became NaN or infinite while training."""

    def __init__(self, *, step: int, value: float, checkpoint: str | None) -> None:
        kept = f"the last good checkpoint is {checkpoint}" if checkpoint else "there is no checkpoint yet"
        super().__init__(
            f"the loss is {value} at step {step}; {kept}; train anew with smaller steps: "
            "phase.lr_stack=3e-4 phase.lr_projections=3e-4 trainer.gradient_clip_val=0.5"
        )


class NothingToTrainError(T4DMError):
    """No parameter of the model is left to learn."""

    def __init__(self) -> None:
        super().__init__(
            "no parameter of the model learns; give it a LoRA or a stack: model/lora=qv or model/stack=small"
        )


class NothingToSleepOnError(T4DMError):
    """A night needs memories and at least one phase."""

    def __init__(self, run: str) -> None:
        super().__init__(
            f"{run} has no store, or sleep has no phases; name a run with storage=t4dx and take sleep=nightly"
        )


class NoMemoryError(T4DMError):
    """Something is to be remembered, and the run has no store."""

    def __init__(self, run: str) -> None:
        super().__init__(
            f"{run} has no store to write to; name a run that was trained with one, storage=t4dx, "
            "or write nothing: write=false"
        )


class NoTextForSearchError(T4DMError):
    """A rank search has no text to measure a perplexity on."""

    def __init__(self, path: str | None) -> None:
        what = "a rank search needs a text" if path is None else f"there is no text file {path}"
        super().__init__(f"{what}; name one: t4dm study rank_search --text book.txt")


class SearchJobError(T4DMError):
    """A training of a search did not finish.

    Args:
        job: its name.
        folder: of the training.
        code: its exit code; 0 where it ended well but left no figures.
        study: folder of the search.
    """

    def __init__(self, job: str, folder: str, *, code: int, study: str) -> None:
        how = f"failed with exit code {code}" if code else "left no figures"
        super().__init__(
            f"the training {job} {how}: see {folder}/train.log; the search goes on from what is finished "
            f"when it is started again with --out {study}"
        )


class ExamTooSmallError(T4DMError):
    """An arm of the exam needs another episode's memories, and there is none."""

    def __init__(self, episodes: int) -> None:
        super().__init__(
            f"the arm shuffled takes another episode's memories, but the exam has {episodes}; "
            f"set exam.recall.episodes=2 or more"
        )


class ExportTargetError(T4DMError):
    """An export cannot be written where it was asked for.

    Args:
        path: as typed.
        problem: what is wrong with it; it ends with what to type.
    """

    def __init__(self, path: object, problem: str) -> None:
        super().__init__(f"{path} {problem}")


class ImportFileError(T4DMError):
    """A file to be imported cannot be read, or does not fit the store.

    Args:
        path: as typed.
        problem: what is wrong with it; it ends with what to type.
    """

    def __init__(self, path: object, problem: str) -> None:
        super().__init__(f"{path} {problem}")


class ImportLineError(T4DMError):
    """One line of a file cannot be stored."""

    def __init__(self, path: object, number: int, problem: str) -> None:
        super().__init__(
            f"line {number} of {path}: {problem}; nothing of its batch was stored, "
            "correct the line and run the import again"
        )


class NoBackupError(StoreError):
    """There is no store, and no finished copy of one, at a path."""

    def __init__(self, path: str, *, unfinished: bool = False) -> None:
        what, fix = "holds no store and no backup", "name the folder that T4DX.open takes"
        if unfinished:
            what, fix = "is a copy that was never finished", f"remove it and copy again: rm -r {path}"
        super().__init__(f"{path} {what}; {fix}")


class BackupError(StoreError):
    """A copy of a store did not come out like the store."""

    def __init__(self, target: str, problem: str) -> None:
        super().__init__(
            f"the copy {target} is not like its source ({problem}); nothing there is a store yet, "
            f"remove it and copy again to a healthy disk: rm -r {target}"
        )


class RepairError(StoreError):
    """A store cannot be repaired; nothing in it was deleted."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(
            f"the store {path} cannot be repaired ({problem}); nothing was deleted, "
            f"restore a backup: t4dm store restore BACKUP NEW"
        )


class UsageError(T4DMError):
    """What was typed after a verb cannot be meant; the message ends with what can."""

    exit_code = 2


class StoreBusyError(T4DMError):
    """A verb that writes met a store that another process has open for writing."""

    def __init__(self, path: str, owner: str) -> None:
        super().__init__(
            f"the store {path} is open for writing by {owner}; close it there, "
            "or use a verb that only reads: stats, get, scan, search, timeline, verify, backup, export"
        )


class StoreDamagedError(T4DMError):
    """A verb met a store whose files are not what was written."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{problem}; see what can be saved: t4dm store repair {path} --dry-run")


class MissingBackendError(T4DMError):
    """A kernel backend was asked for by name that this machine cannot run; nothing else ran in its place.

    Args:
        kernel: of which one.
        name: what was asked for.
        why: it cannot run.
        instead: what can.
        setting: its name in a config.
    """

    def __init__(
        self, kernel: str, name: str, why: str, *, instead: tuple[str, str] = ("auto", "cpu"), setting: str
    ) -> None:
        super().__init__(
            f"the {kernel} kernel's backend {name!r} cannot run here ({why}); "
            f"pass backend={instead[0]!r} or {instead[1]!r}, in a config ++{setting}=auto"
        )


class LocomoMissingError(T4DMError):
    """The conversations of LoCoMo are not where they were looked for."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"there is no {path}; LoCoMo does not come with t4dm (CC BY-NC 4.0): get locomo10.json of "
            "snap-research/locomo, put it at FOLDER/dev/locomo_dev.json and type: "
            "t4dm study retrieval --data FOLDER"
        )


class LocomoFormatError(T4DMError):
    """A file of conversations is not what LoCoMo's official release looks like."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path} is not in LoCoMo's form ({problem}); get it anew: --data FOLDER")


class TooFewConversationsError(T4DMError):
    """Weights cannot be chosen on other conversations, because there is no other."""

    def __init__(self, count: int) -> None:
        super().__init__(
            f"weights are chosen on all conversations but the one that is scored, and there are {count}; "
            "take those of an earlier study: t4dm study retrieval --weights RUN/weights.json"
        )


class WeightsFileError(T4DMError):
    """A file does not hold the weights of a retrieval study."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(
            f"{path} holds no weights ({problem}); name the weights.json of a study: "
            "t4dm study retrieval --weights RUN/weights.json"
        )
