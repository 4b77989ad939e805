"""Tokens to pieces of text as they come: never half a character, and nothing of a stop string."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

from t4dm.errors import SettingError

PART = "\ufffd"
CONTEXT = 8


@final
class TextStream:
    """The text of one sequence while it grows.

    What the pieces add up to is the text of the tokens, cut before the stop string that is complete first.
    A token that ends inside a character waits for the next; a text that may become a stop string is held
    back until it is clear.

    Args:
        tokenizer: of the backbone.
        prompt: token ids before the first; some tokenizers write a word otherwise at a text's start.
        stop: strings that end the text; they are not part of it.

    Raises:
        SettingError: an empty stop string.
    """

    def __init__(self, tokenizer: Any, *, prompt: Sequence[int] = (), stop: Sequence[str] = ()) -> None:
        if "" in stop:
            raise SettingError("stop", list(stop), "an empty string stops everything; leave it out: stop=[]")
        self._tokenizer, self._stop = tokenizer, tuple(stop)
        self._ids = list(prompt[-CONTEXT:])
        self._known, self._read = 0, len(self._ids)
        self._held = ""
        self.stopped = False
        """Whether a stop string was met."""

    def push(self, token: int) -> str:
        """Take the next token; what can be said now, often nothing."""
        self._ids.append(token)
        before, now = (self._text(self._known, end) for end in (self._read, len(self._ids)))
        if now.endswith(PART) or self.stopped:
            return ""
        self._known, self._read = self._read, len(self._ids)
        return self._said(now[len(before) :])

    def end(self) -> str:
        """What was held back for a stop string that did not come; a part of a character stays unsaid."""
        held, self._held = self._held, ""
        return held

    def _text(self, start: int, end: int) -> str:
        return str(
            self._tokenizer.decode(
                self._ids[start:end], skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
        )

    def _said(self, text: str) -> str:
        self._held += text
        found = [(at + len(stop), at) for stop in self._stop if (at := self._held.find(stop)) >= 0]
        if found:
            said, self._held, self.stopped = self._held[: min(found)[1]], "", True
            return said
        keep = max((_overlap(self._held, stop) for stop in self._stop), default=0)
        cut = len(self._held) - keep
        said, self._held = self._held[:cut], self._held[cut:]
        return said


def _overlap(text: str, stop: str) -> int:
    """The longest end of `text` that `stop` begins with."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
