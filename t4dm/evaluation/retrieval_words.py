"""How texts become words in a retrieval study: as they are written, as stems, or as stems without the words
that questions and talk are made of.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from t4dm.t4dx import Analyzer
from t4dm.t4dx.tokens import ENGLISH

WRITTEN: Final = "written"
STEMS: Final = "stems"
CONTENT: Final = "stems of content words"
WORDS: Final = (WRITTEN, STEMS, CONTENT)
ASKING: Final = (
    "i you he she we me my your his her our him them what when where who which how why did does do has have"
    " had been were am can could would should about from so just really s t m ll ve re d"
)
"""Words that questions are made of, and pronouns, left out of CONTENT beside ENGLISH."""


@lru_cache(maxsize=len(WORDS))
def analyzer_of(words: str) -> Analyzer:
    """What cuts texts into one of WORDS.

    Raises:
        MissingExtra: there is no stemmer.
    """
    if words == WRITTEN:
        return Analyzer()
    return Analyzer(stem="english", stop=(*ENGLISH, ASKING) if words == CONTENT else ())
