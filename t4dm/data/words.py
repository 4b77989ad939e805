"""The small world that recall episodes speak of: who there is, what can be said of them, and what goes on.

Every word is one token of the tiny backbone's tokenizer.
"""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ENTITIES = _words(
    """
    Anna Boris Clara David Elena Felix Grace Henry Irene Jacob Karen Louis Maria Nina Oscar Paula
    Quinn Rosa Simon Tara Ursula Victor Wanda Xavier Yara Zoe Alice Bruno Carlos Diana Edgar Fiona
    George Helen Igor Julia Kevin Laura Martin Nora Oliver Petra Ralph Sonya Thomas Vera Walter Agnes
    Bella Conrad Doris Emil Frida Gustav Hugo Iris Jonas Katia Leo Mona Nathan Olga Peter Rita
    """
)

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "color": _words(
        "red blue green yellow black white brown purple orange pink grey gold silver violet scarlet ivory"
    ),
    "city": _words(
        "Paris London Rome Madrid Berlin Vienna Moscow Athens "
        "Lisbon Dublin Oslo Prague Cairo Delhi Tokyo Lima"
    ),
    "food": _words("bread rice soup cheese fish beans honey pasta salad cake eggs meat corn nuts pie stew"),
    "animal": _words("dog cat horse cow sheep goat pig duck lion tiger bear wolf fox rabbit mouse eagle"),
    "job": _words(
        "doctor teacher farmer lawyer baker painter singer writer "
        "driver nurse judge pilot tailor sailor hunter priest"
    ),
    "drink": _words(
        "water milk tea coffee wine beer juice cider cocoa lemonade rum brandy whisky vodka punch gin"
    ),
    "tool": _words(
        "hammer saw knife axe needle shovel brush rope ladder drill spade pen hook lamp wheel scissors"
    ),
    "fruit": _words(
        "apple pear plum cherry grape lemon banana peach melon fig mango lime olive berry apricot date"
    ),
}

_WHEN = _words("Yesterday Later Today Often Sometimes Once Then Again")
_WHO = (*ENTITIES[:24], "the old man", "the child", "the guest", "the crowd", "the soldier", "the queen")
_DID = _words("walked waited slept talked laughed rested worked danced wandered listened shouted returned")
_WHERE = tuple(
    f"{preposition} the {place}"
    for preposition in ("near", "behind", "in", "outside")
    for place in _words("river market garden church forest station bridge house tower harbour field school")
)
DISTRACTOR_PARTS = (_WHEN, _WHO, _DID, _WHERE)


def fact(entity: str, attribute: str, value: str) -> str:
    """A fact, told for the first time."""
    return f"The {attribute} of {entity} is {value}."


def update(entity: str, attribute: str, value: str) -> str:
    """A fact that supersedes what was told before."""
    return f"The {attribute} of {entity} is now {value}."


def question(entity: str, attribute: str) -> str:
    """The question whose answer is the value told last."""
    return f"What is the {attribute} of {entity}?"
