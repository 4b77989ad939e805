"""Every exception a user can meet. One class per mistake; each message ends with what to type."""

from __future__ import annotations


class T4DMError(Exception):
    """Base of all errors that the command line prints as one line, without a traceback."""


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
        super().__init__(f"a recall window needs {needed} {what} but has room for {room}; set {field}={needed} or more")


class DataFileMissingError(T4DMError):
    """A text file or glob names no file."""

    def __init__(self, pattern: str) -> None:
        super().__init__(f"no file matches {pattern!r}; set data.files to the path of a .txt, .jsonl or .parquet file")


class DataFormatError(T4DMError):
    """A data file cannot be read as what its name says."""

    def __init__(self, path: str, problem: str, *, fix: str) -> None:
        super().__init__(f"{path}: {problem}; {fix}")


class DataFieldMissingError(T4DMError):
    """A record holds no text under the configured field."""

    def __init__(self, where: str, field: str, present: list[str]) -> None:
        named = ", ".join(present) or "no field at all"
        super().__init__(f"{where} has no text under {field!r} but {named}; set data.field to the one that holds the text")


class TextEncodingError(T4DMError):
    """A text file is not UTF-8."""

    def __init__(self, path: str, offset: int, *, encoding: str = "LATIN1") -> None:
        super().__init__(
            f"{path} is not UTF-8 at byte {offset}; convert it: iconv -f {encoding} -t UTF-8 {path} > {path}.utf8"
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
            f"token id {token} lies outside the vocabulary of {vocab_size} that the lexical keys were made for; "
            "encode with the same tokenizer, or build the embedder with vocab_size=len(tokenizer)"
        )


class GateStateError(T4DMError):
    """A temporal gate's saved state has another number of features."""

    def __init__(self, *, found: int, expected: int) -> None:
        super().__init__(
            f"the saved temporal gate weighs {found} features, this one {expected}; "
            f"build it with weights of length {found}, or start the gate afresh"
        )
