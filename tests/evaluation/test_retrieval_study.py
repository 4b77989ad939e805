"""The retrieval study on made-up conversations: what is stored, who chooses for whom, what edges bring."""

from __future__ import annotations

import csv
import json
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from t4dm.errors import TooFewConversationsError
from t4dm.evaluation.locomo import Conversation, Question, Turn
from t4dm.evaluation.retrieval import ARMS, CONTROLS, EDGES, RECIPE, Arm, Study, study
from t4dm.evaluation.retrieval_scores import difference, markdown, scored, summary, write_questions
from t4dm.evaluation.retrieval_store import TURNS, make_store, turn_text
from t4dm.evaluation.retrieval_weights import GRID, RELATIONS, Board, Weights, choose, cross_validated
from t4dm.evaluation.retrieval_words import CONTENT, STEMS, WRITTEN, analyzer_of
from t4dm.t4dx import T4DX, EdgeFilter, Filter

WORDS = ("cat", "dog", "tea", "rain", "book", "lake", "shoe", "song")
DAY = 86_400.0


def encode(texts: Sequence[str]) -> NDArray[np.float32]:
    """A bag of words, each in one of 16 directions."""
    vectors = np.full((len(texts), 16), 0.01, np.float32)
    for row, text in enumerate(texts):
        for word in text.lower().replace(":", "").replace("?", "").split():
            vectors[row, zlib.crc32(word.encode()) % 16] += 1.0
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def conversation(name: str, *, shift: int = 0, answer: int = 1) -> Conversation:
    """Four sessions in which Ann asks for a thing and Bob answers without naming it. Evidence of a question
    for the thing is the turn `answer` after the one that names it.
    """
    turns, questions = [], []
    for session in range(4):
        things = [WORDS[(2 * session + shift + i) % 8] for i in range(2)]
        texts = [f"where is the {things[0]}", "it is upstairs", f"where is the {things[1]}", "no idea at all"]
        for place, text in enumerate(texts):
            speaker = ("Ann", "Bob")[place % 2]
            turns.append(
                Turn(f"D{session + 1}:{place + 1}", session + 1, speaker, text, "", session * DAY + place)
            )
        for i, thing in enumerate(things):
            right = f"D{session + 1}:{2 * i + 1 + answer}"
            questions.append(Question(f"{name}/{len(questions)}", 1 + i, f"what of the {thing}?", (right,)))
    return Conversation(name, ("Ann", "Bob"), tuple(turns), tuple(questions))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[T4DX]:
    one = conversation("a")
    with make_store(tmp_path / "a", one, encode([turn_text(turn) for turn in one.turns])) as opened:
        yield opened


def board(folder: Path, one: Conversation) -> Board:
    opened = make_store(folder / one.id, one, encode([turn_text(turn) for turn in one.turns]))
    return Board(opened, one.questions, encode([q.text for q in one.questions]))


def test_a_conversation_becomes_turns_nodes_and_edges(store: T4DX) -> None:
    assert store.count(TURNS) == 16
    assert [item.id for item in store.scan(Filter(type="semantic"))] == ["Ann", "Bob", "S1", "S2", "S3", "S4"]
    assert Counter(str(edge.type) for edge in store.edges(where=EdgeFilter())) == {
        "PART_OF": 16,
        "HAS_CONTEXT": 16,
        "TEMPORAL_BEFORE": 12,  # none leads from one session into the next
        "TEMPORAL_AFTER": 12,
    }
    assert {(str(e.type), e.target) for e in store.edges(where=EdgeFilter(source="D2:2"))} == {
        ("PART_OF", "S2"),
        ("HAS_CONTEXT", "Bob"),
        ("TEMPORAL_BEFORE", "D2:3"),
        ("TEMPORAL_AFTER", "D2:1"),
    }
    turn, session = store.get("D2:1"), store.get("S2")
    assert turn is not None
    assert session is not None
    assert (turn.content, turn.session, turn.event_time) == ("Ann: where is the tea", "S2", DAY)
    assert session.content.split("\n")[:2] == ["2 January 1970", "Ann: where is the tea"]
    assert session.vector is None


def test_a_picture_is_told_with_its_turn() -> None:
    assert turn_text(Turn("D1:1", 1, "Ann", "Look!", "a cat", 0.0)) == "Ann: Look! [a cat]"


def test_shuffled_edges_are_as_many_and_join_others(tmp_path: Path) -> None:
    one = conversation("a")
    vectors = encode([turn_text(turn) for turn in one.turns])
    order = np.random.default_rng(0).permutation(16)
    with make_store(tmp_path / "s", one, vectors, order=order) as shuffled:
        kinds = Counter(str(edge.type) for edge in shuffled.edges(where=EdgeFilter()))
        assert kinds == {"PART_OF": 16, "HAS_CONTEXT": 16, "TEMPORAL_BEFORE": 12, "TEMPORAL_AFTER": 12}
        first = one.turns[order[0]].id  # it has the edges of D1:1
        (target,) = [e.target for e in shuffled.edges(where=EdgeFilter(source=first, type="TEMPORAL_BEFORE"))]
        assert target == one.turns[order[1]].id
        assert shuffled.get("D2:1") is not None


@pytest.mark.parametrize(
    "weights",
    [
        Weights(),
        Weights(text=0.3, k1=0.6, b=0.2),
        RECIPE,
        Weights(text=0.7, previous=0.4, next=0.1, session=1.0, speaker=0.2, k1=0.9, b=0.4),
    ],
)
def test_a_board_adds_up_what_the_store_answers(tmp_path: Path, store: T4DX, weights: Weights) -> None:
    one = conversation("a")
    questions = [*one.questions, Question("a/x", 1, "does Bob know of the tea and the rain?", ("D2:1",))]
    vectors = encode([question.text for question in questions])
    scores = Board(store, questions, vectors).scores(weights)
    assert scores.shape == (9, 16)
    turns = [item.id for item in store.scan(TURNS)]
    for row, asked, vector in zip(scores, questions, vectors, strict=True):
        found = store.search_hybrid(
            vector,
            asked.text,
            16,
            TURNS,
            weights=weights.sides,
            spread=weights.spread,
            depth=16,
            corpus=TURNS,
            bm25=weights.bm25,
        )
        told = {hit.id: hit.score for hit in found}
        assert [told.get(name, 0.0) for name in turns] == pytest.approx(row.tolist(), abs=1e-6)


def test_an_edge_counts_as_much_as_its_weight_says() -> None:
    spread = Weights(previous=0.3, speaker=0.1).spread
    assert spread is not None
    assert spread.relations == {"TEMPORAL_AFTER": 0.3, "HAS_CONTEXT": 0.1}
    assert Weights(text=0.2).spread is None
    assert Weights(text=0.2).sides == pytest.approx({"vector": 0.8, "text": 0.2})
    assert set(RELATIONS) == {"previous", "next", "session", "speaker"}


def test_the_edge_that_leads_to_answers_is_chosen(tmp_path: Path) -> None:
    """Evidence stands behind what the question names, so a turn must hear the one before it."""
    after = board(tmp_path, conversation("a", answer=1))
    at_it = board(tmp_path, conversation("b", answer=0))
    fields = ("previous", "next")
    chosen = choose([after], Weights(), fields)
    assert chosen.previous == max(GRID["previous"])
    assert chosen.next < chosen.previous
    assert choose([at_it], Weights(), fields) == Weights()
    assert after.gain(chosen) > after.gain(Weights())


def test_the_words_that_find_answers_are_chosen(tmp_path: Path) -> None:
    """Questions ask for cats, turns tell of a cat; or for what a turn tells in so many words."""
    pytest.importorskip("snowballstemmer")
    one = conversation("a", answer=0)
    many = [asked._replace(text=asked.text.replace("?", "s?")) for asked in one.questions]
    plural = board(tmp_path, one._replace(id="b", questions=tuple(many)))
    assert choose([plural], Weights(text=1.0), ("words",)).words == STEMS
    assert choose([board(tmp_path, one)], Weights(text=1.0), ("words",)).words == WRITTEN


def test_words_are_cut_as_their_name_says() -> None:
    pytest.importorskip("snowballstemmer")
    text = "Where did she put the lakes and shoes?"
    assert analyzer_of(WRITTEN).words(text) == ["where", "did", "she", "put", "the", "lakes", "and", "shoes"]
    assert analyzer_of(STEMS).words(text) == ["where", "did", "she", "put", "the", "lake", "and", "shoe"]
    assert analyzer_of(CONTENT).words(text) == ["put", "lake", "shoe"]


def test_a_conversation_has_no_say_in_its_own_weights(tmp_path: Path) -> None:
    boards = {
        "a": board(tmp_path, conversation("a", answer=0)),
        "b": board(tmp_path, conversation("b", shift=1, answer=1)),
        "c": board(tmp_path, conversation("c", shift=2, answer=1)),
    }
    fields = ("previous",)
    chosen = cross_validated(boards, Weights(), fields)
    assert chosen["a"] == choose([boards["b"], boards["c"]], Weights(), fields)
    assert chosen["a"].previous > 0.0  # by itself it would have chosen 0
    assert chosen["all"] == choose(list(boards.values()), Weights(), fields)
    boards["a"] = board(tmp_path / "again", conversation("a", answer=1))
    assert cross_validated(boards, Weights(), fields)["a"] == chosen["a"]


PLAIN_ARMS = {
    "hybrid": Arm(),
    EDGES: Arm(start=RECIPE, fields=("previous",)),
    "hybrid + shuffled edges": Arm(start=RECIPE, shuffled=True),
    "text": Arm(search="text"),
    "vector": Arm(search="vector"),
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Study:
    told = [conversation("a"), conversation("b", shift=3), conversation("c", shift=5)]
    folder = tmp_path_factory.mktemp("stores")
    return study(told, encode=encode, folder=folder, rng=np.random.default_rng(1), arms=PLAIN_ARMS)


def test_edges_find_what_words_and_vectors_do_not(found: Study) -> None:
    figures = {arm: summary(rows, seed=0, draws=100)["all"] for arm, rows in found.rows.items()}
    assert set(figures) == set(PLAIN_ARMS)
    assert all(told["n"] == 24 for told in figures.values())
    assert figures[EDGES]["R@5"]["mean"] > figures["hybrid"]["R@5"]["mean"] + 0.3
    assert figures[EDGES]["MRR"]["mean"] > figures["hybrid + shuffled edges"]["MRR"]["mean"]
    assert list(found.weights) == [EDGES]
    assert set(found.weights[EDGES]) == {"a", "b", "c", "all"}


def test_weights_of_an_earlier_study_are_taken_as_they_are(tmp_path: Path, found: Study) -> None:
    given = {EDGES: {"all": Weights(previous=0.4), "a": Weights(next=0.4)}}
    only = {EDGES: PLAIN_ARMS[EDGES]}
    fixed = {EDGES: Arm(start=Weights(previous=0.4))}
    told, rng = [conversation("a")], np.random.default_rng(1)
    taken = study(told, encode=encode, folder=tmp_path / "1", rng=rng, weights=given, arms=only)
    other = study(told, encode=encode, folder=tmp_path / "2", rng=rng, weights=given, arms=only)
    assert taken.weights == given
    assert taken.rows == other.rows
    plain = study([*told, conversation("b")], encode=encode, folder=tmp_path / "3", rng=rng, arms=fixed)
    assert taken.rows[EDGES] == plain.rows[EDGES][:8]


def test_one_conversation_cannot_choose_for_itself(tmp_path: Path) -> None:
    with pytest.raises(TooFewConversationsError, match=r"--weights RUN/weights\.json$"):
        study([conversation("a")], encode=encode, folder=tmp_path, rng=np.random.default_rng(0))
    assert not any(tmp_path.iterdir())


def test_every_arm_that_is_shipped_names_what_there_is() -> None:
    for name, arm in ARMS.items():
        assert set(arm.fields) <= set(GRID)
        assert arm.search in ("text", "vector", "hybrid")
        assert arm.shuffled == (name in CONTROLS)
    assert set(CONTROLS.values()) <= set(ARMS)


def test_a_question_is_scored_by_hand() -> None:
    row = scored(Question("a/0", 4, "?", ("x", "y", "z")), ["q", "y", *"abcdefg", "x", "z"])
    assert row.ranks == (10, 2, 11)
    assert row.conversation == "a"
    assert (row.measures["R@1"], row.measures["MRR"]) == (0.0, 0.5)
    assert (row.measures["R@5"], row.measures["R@10"]) == pytest.approx((1 / 3, 2 / 3))
    # places 2 and 10: (0.630930 + 0.289065) / 2.130930
    assert row.measures["nDCG@10"] == pytest.approx(0.4317341, abs=1e-6)


def test_a_summary_counts_each_category_and_all_of_them() -> None:
    rows = [
        scored(Question(f"a/{i}", c, "?", ("x",)), ["x"] if c < 5 else []) for i, c in enumerate((1, 2, 5))
    ]
    told = summary(rows, seed=0, draws=200)
    assert {name: one["n"] for name, one in told.items()} == {
        "all": 3,
        "answerable": 2,
        "multi-hop": 1,
        "temporal": 1,
        "adversarial": 1,
    }
    assert told["all"]["R@10"]["mean"] == pytest.approx(2 / 3)
    assert told["answerable"]["nDCG@10"] == {"mean": 1.0, "ci": [1.0, 1.0], "ci_conversations": [1.0, 1.0]}
    assert told["all"]["R@10"]["ci_conversations"] == pytest.approx([2 / 3, 2 / 3])  # one conversation


def test_a_difference_is_taken_question_by_question() -> None:
    asked = [Question(f"a/{i}", 1, "?", ("x",)) for i in range(3)]
    one = [scored(question, ["x"]) for question in asked]
    other = [scored(question, ["q", "x"]) for question in asked]
    told = difference(one, other, "MRR", seed=0)
    assert told["mean"] == pytest.approx(0.5)
    assert told["ci"] == pytest.approx([0.5, 0.5])
    with pytest.raises(ValueError, match=r"pass rows of the same questions$"):
        difference(one, other[1:], "MRR", seed=0)


def test_the_files_of_a_study_hold_figures_and_no_text(tmp_path: Path, found: Study) -> None:
    file = tmp_path / "questions.csv"
    write_questions(file, found.rows)
    with file.open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert len(rows) == 24 * len(PLAIN_ARMS)
    first = found.rows["hybrid"][0]
    assert rows[0]["question"] == "a/0"
    assert rows[0]["evidence"] == "D1:2"
    assert rows[0]["ranks"] == str(first.ranks[0])
    assert float(rows[0]["nDCG@10"]) == pytest.approx(first.measures["nDCG@10"], abs=1e-4)
    figures = {arm: summary(rows, seed=0, draws=100) for arm, rows in found.rows.items()}
    pair = {"R@10": difference(found.rows[EDGES], found.rows["hybrid"], "R@10", seed=0)}
    page = markdown(figures, {"edges - none": pair})
    mean = 100 * figures[EDGES]["all"]["R@1"]["mean"]
    assert f"| {EDGES} | {mean:.1f} |" in page
    assert "multi-hop (12)" in page
    assert f"| edges - none | {100 * pair['R@10']['mean']:.1f} [" in page
    everything = file.read_text() + page + json.dumps(figures)
    assert not any(part in everything for part in ("what of", "upstairs", "where is", "no idea"))
