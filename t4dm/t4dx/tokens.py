"""Words of a text, the same for documents and queries: what the text index counts and a query looks for.

A text is brought to NFKC, case-folded and cut at everything that is no letter, mark or digit. Scripts that
write no spaces give their characters and pairs of neighbours instead (Lucene's CJK bigrams, with unigrams, so
that a query of one character finds something).
"""

from __future__ import annotations

import hashlib
import re
import sys
import unicodedata
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, final

from t4dm.errors import MissingExtra, TextQueryError

VERSION: Final = 1
"""Goes up when the same text gives other words: an index on disk of another version is made anew."""
_LEFT_OUT: Final = """a an and are as at be but by for if in into is it no not of on or such that the their
    then there these they this to was will with"""
ENGLISH: Final = tuple(_LEFT_OUT.split())
"""The words that Lucene's English analysis leaves out."""
_ASCII: Final = re.compile(r"[^\W_]+", re.ASCII)
# Han with its extensions and 々〇, kana, Thai, Lao, Myanmar, Khmer
_UNSPACED: Final = (
    "々〇\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U000323af"
)
_STACKED: Final = "\u0e01-\u0e4e\u0e81-\u0ece\u1000-\u1049\u1050-\u109d\u1780-\u17d3"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Analyzer:
    """How texts become words. Each analyzer has an index of its own, made at its first search.

    Attributes:
        stem: a Snowball language such as "english", or "" for words as they are written.
        stop: words to leave out, for example `tokens.ENGLISH`.
    """

    stem: str = ""
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):
            raise TextQueryError(f"stop is the string {self.stop!r}; write stop=({self.stop!r},)")
        object.__setattr__(self, "stop", tuple(sorted({word for text in self.stop for word in split(text)})))
        if self.stem:
            _stemmer(self.stem)

    @property
    def name(self) -> str:
        """A short name for files: equal where the words are."""
        if not self.stem and not self.stop:
            return f"words{VERSION}"
        stems = getattr(_module(), "__version__", "") if self.stem else ""
        told = "\0".join((str(VERSION), unicodedata.unidata_version, self.stem, stems, *self.stop))
        return f"words{VERSION}-{hashlib.sha256(told.encode()).hexdigest()[:12]}"

    def words(self, text: str) -> list[str]:
        """The words of a text in their order, with repetitions."""
        found = split(text)
        if self.stop:
            left_out = _set(self.stop)
            found = [word for word in found if word not in left_out]
        if self.stem:
            stemmed = _stems(self.stem)
            found = [stemmed(word) for word in found]
        return found


def split(text: str) -> list[str]:
    """The words of a text as they are written, folded."""
    if text.isascii():
        return _ASCII.findall(text.lower())
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    words, unspaced = _patterns()
    found = []
    for run in words.findall(folded):
        if unspaced.search(run):
            found += _cut(run, unspaced)
        else:
            found.append(run)
    return found


def _cut(run: str, unspaced: re.Pattern[str]) -> list[str]:
    """A run of letters, some of a script without spaces: those one by one and in pairs, the rest as words."""
    found, place = list[str](), 0
    for part in unspaced.finditer(run):
        if part.start() > place:
            found.append(run[place : part.start()])
        signs = part.group()
        found += signs
        found += [signs[at : at + 2] for at in range(len(signs) - 1)]
        place = part.end()
    if place < len(run):
        found.append(run[place:])
    return found


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """A word, and a stretch without spaces in it. `re` does not know the marks that vowels are written with
    in Indic scripts: a word goes on over them.
    """
    marks = _ranges([code for code in range(0x300, 0x10000) if unicodedata.category(chr(code))[0] == "M"])
    word = rf"[^\W_](?:[^\W_]|[\u200c\u200d{marks}])*"
    return re.compile(word), re.compile(f"[{_UNSPACED}{_STACKED}]+")


def _ranges(codes: list[int]) -> str:
    """Ascending code points as the inside of a character class."""
    parts, start = list[str](), 0
    for place in range(1, len(codes) + 1):
        if place == len(codes) or codes[place] != codes[place - 1] + 1:
            parts.append(f"\\u{codes[start]:04x}-\\u{codes[place - 1]:04x}")
            start = place
    return "".join(parts)


@cache
def _set(words: tuple[str, ...]) -> frozenset[str]:
    return frozenset(words)


def _module() -> Any:
    try:
        import snowballstemmer
    except ImportError:
        raise MissingExtra("snowballstemmer", "text") from None
    return snowballstemmer


@cache
def _stemmer(language: str) -> Any:
    try:
        return _module().stemmer(language)
    except KeyError:
        raise TextQueryError(
            f"no stemmer for {language!r}; choose one of {', '.join(_module().algorithms())}"
        ) from None


@cache
def _stems(language: str) -> Any:
    """A stemmer with a memory. Its object has a state, so threads have to take turns."""
    import threading
    from functools import lru_cache

    lock, stemmer = threading.Lock(), _stemmer(language)

    @lru_cache(1 << 16)
    def stemmed(word: str) -> str:
        with lock:
            return sys.intern(str(stemmer.stemWord(word)))

    return stemmed
