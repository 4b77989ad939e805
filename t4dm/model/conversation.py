"""What a model is shown of a conversation: the newest turns as far as there is room, and the new line."""

from __future__ import annotations

from typing import Any, final

END_OF_ANSWER = (".", "\n")


@final
class Conversation:
    """Turns as the prompt of the next answer, with the tokenizer's chat template where it has one.

    Without a template a line begins with a space and the answer goes on from it, as the recall episodes are
    laid out; an answer then ends with its first sentence.

    Args:
        tokenizer: of the backbone.
        context: the most tokens of earlier turns that are shown again; what is older, only the memory knows.
    """

    def __init__(self, tokenizer: Any, *, context: int) -> None:
        self._tokenizer, self.context = tokenizer, context
        self.has_template = getattr(tokenizer, "chat_template", None) is not None
        self.stop = () if self.has_template else END_OF_ANSWER
        self._turns: list[tuple[str, str, list[int]]] = []

    def line_ids(self, line: str) -> list[int]:
        """The tokens of a line by itself: what the memory is asked with and what is remembered of it."""
        text = line if line[:1].isspace() else f" {line}"
        return list(self._tokenizer.encode(text, add_special_tokens=False, verbose=False))

    def prompt(self, line: str) -> list[int]:
        """The tokens to go on from."""
        alone = self._laid_out([], line)
        for first in range(len(self._turns)):
            whole = self._laid_out(self._turns[first:], line)
            if len(whole) - len(alone) <= self.context:
                return whole
        return alone

    def add(self, line: str, answer: str, answer_ids: list[int]) -> None:
        """A turn is over."""
        self._turns.append((line, answer, answer_ids))
        del self._turns[: -max(1, self.context)]

    def _laid_out(self, turns: list[tuple[str, str, list[int]]], line: str) -> list[int]:
        if not self.has_template:
            told = [token for said, _, ids in turns for token in [*self.line_ids(said), *ids]]
            return [*told, *self.line_ids(line)]
        messages = [
            message
            for said, answer, _ in turns
            for message in ({"role": "user", "content": said}, {"role": "assistant", "content": answer})
        ]
        made: Any = self._tokenizer.apply_chat_template(
            [*messages, {"role": "user", "content": line}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
        )
        return list(made["input_ids"])
