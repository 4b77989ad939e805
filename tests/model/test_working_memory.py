"""The working memory: earlier spans of a batch, found, read with gradients, never of others or the future."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from t4dm.backbone.load import load_backbone
from t4dm.data.recall import RecallTask
from t4dm.data.recall_module import RecallDataModule
from t4dm.errors import SettingError
from t4dm.model import MemoryLM, Reads, Writes
from t4dm.model.working_memory import earlier, hold, places

from .conftest import asked, open_gate, told

NO = -1


def reads(*rows: list[tuple[int, int]], sessions: str) -> Reads:
    return Reads(*table(rows), list(sessions))


def writes(*rows: list[tuple[int, int]], times: list[float]) -> Writes:
    return Writes(*table(rows), torch.tensor(times, dtype=torch.float64))


def table(rows: tuple[list[tuple[int, int]], ...]) -> tuple[Tensor, Tensor]:
    wide = max(map(len, rows))
    full = [[*row, *[(NO, NO)] * (wide - len(row))] for row in rows]
    return tuple(torch.tensor([[span[i] for span in row] for row in full]) for i in (0, 1))  # type: ignore[return-value]


def whole(rows: int, length: int = 20) -> Tensor:
    return torch.ones(rows, length, dtype=torch.bool)


def pairs(allowed: Tensor) -> set[tuple[int, ...]]:
    """(row, read, row of the span, span)."""
    return set(map(tuple, allowed.nonzero().tolist()))


def test_a_read_may_recall_earlier_rows_of_its_session_and_what_its_own_row_told_before_the_query() -> None:
    asks = reads([(8, 10)], [(8, 10)], [(8, 10)], sessions="aab")
    tells = writes([(0, 4), (10, 14)], [(0, 4), (4, 9)], [(0, 4)], times=[0.0, 60.0, 120.0])
    found = pairs(earlier(asks, tells, reset=None, mask=whole(3)))
    assert found == {(0, 0, 0, 0), (1, 0, 0, 0), (1, 0, 0, 1), (1, 0, 1, 0), (2, 0, 2, 0)}


def test_rows_of_the_same_time_do_not_see_each_other() -> None:
    asks, tells = reads([(8, 10)], [(8, 10)], sessions="aa"), writes([(0, 4)], [(0, 4)], times=[5.0, 5.0])
    assert pairs(earlier(asks, tells, reset=None, mask=whole(2))) == {(0, 0, 0, 0), (1, 0, 1, 0)}


def test_one_token_alone_is_not_held() -> None:
    asks, tells = reads([(8, 10)], sessions="a"), writes([(3, 4), (4, 6)], times=[0.0])
    assert pairs(earlier(asks, tells, reset=None, mask=whole(1))) == {(0, 0, 0, 1)}


@pytest.mark.parametrize("pad", [0, 3])
def test_the_start_of_a_document_parts_what_stands_before_it_from_what_comes_after(pad: int) -> None:
    """Rows of 20 tokens, the first `pad` of them padding; a document starts at 6 and another at 12."""
    mask, reset = whole(2), torch.zeros(2, 20, dtype=torch.bool)
    mask[:, :pad] = False
    reset[:, pad] = reset[0, 6] = reset[0, 12] = True
    tells = writes([(3, 6), (6, 9), (12, 15)], [(3, 6)], times=[0.0, 60.0])
    asks = reads([(9, 11), (16, 18)], [(6, 8)], sessions="aa")
    found = pairs(earlier(asks, tells, reset=reset, mask=mask))
    assert found == {(0, 0, 0, 1), (0, 1, 0, 2), (1, 0, 0, 2), (1, 0, 1, 0)}


def test_the_most_alike_are_held_the_newest_first_and_long_ones_are_cut() -> None:
    asks = reads([(1, 2)], [(1, 2)], sessions="aa")
    tells = writes([(0, 4), (4, 9)], [(8, 12)], times=[0.0, 60.0])
    allowed = torch.zeros(2, 1, 2, 2, dtype=torch.bool)
    allowed[1, 0, 0] = True
    likeness = torch.tensor([[[[0.1, 0.9], [0.95, 0.0]]]]).expand(2, 1, 2, 2)
    both = hold(allowed, likeness, tells, k=3, limit=4)
    assert both.found.tolist() == [[[False] * 3], [[True, True, False]]]
    assert both.start[1, 0].tolist() == [4, 0, 0]
    assert both.end[1, 0].tolist() == [8, 4, 0]
    assert both.recency[1, 0].tolist() == [0, 1, 2]
    allowed[1, 0, 1, 0] = True
    best = hold(allowed, likeness, tells, k=2, limit=8)
    assert (best.row[1, 0].tolist(), best.start[1, 0].tolist()) == ([1, 0], [8, 4])
    at, inside = places(best)
    assert at[1, 0].tolist() == [[8, 9, 10, 11, 0], [4, 5, 6, 7, 8]]
    assert inside[1, 0].sum(-1).tolist() == [4, 5]
    asks_nothing = earlier(asks._replace(end=torch.tensor([[2], [NO]])), tells, reset=None, mask=whole(2))
    assert not bool(asks_nothing[1].any())


def test_of_equally_alike_spans_the_newer_is_held() -> None:
    tells = writes([(0, 4), (4, 8)], times=[0.0])
    held = hold(torch.ones(1, 1, 1, 2, dtype=torch.bool), torch.ones(1, 1, 1, 2), tells, k=1, limit=8)
    assert held.start.tolist() == [[[4]]]


@pytest.fixture
def windows() -> dict:
    """Two lanes of two windows each, the earlier ones first."""
    tokenizer = load_backbone("tiny").tokenizer
    data = RecallDataModule(
        encode=lambda text: tokenizer(text)["input_ids"],
        task=RecallTask(windows=2, facts=3, questions=2, distances=(1,), update_rate=0.0),
        lanes=2, rounds=1, writes=6, pad_id=1, windows_per_step=2,
    )  # fmt: skip
    return data.train_dataloader().batch_at(0, 0)


@pytest.fixture
def make_working(make_model):
    def make(working: int) -> MemoryLM:
        model = make_model(working=working)
        return open_gate(model).train()

    return make


def writes_of(batch: dict) -> Writes:
    return Writes(batch["write_start"], batch["write_end"], batch["event_times"])


def told_and_asked(model: MemoryLM, batch: dict, **changes):
    return model(
        batch["input_ids"],
        **{
            "attention_mask": batch["attention_mask"],
            "labels": batch["labels"],
            "reads": Reads(batch["read_start"], batch["read_end"], batch["sessions"]),
            "writes": writes_of(batch),
            "reset": batch["reset"],
            **changes,
        },
    )


def heard(model: MemoryLM) -> list[Tensor]:
    """Each `[B, T, W]` stream that the entry projects, as a leaf that keeps its gradient."""
    streams: list[Tensor] = []

    def before(_module: object, args: tuple[Tensor]) -> tuple[Tensor]:
        streams.append(args[0].detach().requires_grad_())
        return (streams[-1],)

    model.entry.register_forward_pre_hook(before)
    return streams


def test_the_loss_of_a_later_window_reaches_what_the_earlier_one_wrote_and_only_with_a_working_memory(
    make_working, windows
) -> None:
    """Rows 0 and 1 tell; rows 2 and 3, the next windows of the same two episodes, ask."""
    assert windows["sessions"][:2] == windows["sessions"][2:]
    reach: dict[int, Tensor] = {}
    for working in (0, 2):
        model = make_working(working)
        streams = heard(model)
        loss = told_and_asked(model, windows).token_losses[2].sum()
        (gradient,) = torch.autograd.grad(loss, streams[0])
        reach[working] = gradient.abs().sum(-1)
    assert not bool(reach[0][:2].any())
    assert bool(reach[2][0].any())
    assert not bool(reach[2][[1, 3]].any())  # the other episode
    written = torch.zeros(64, dtype=torch.bool)
    for start, end in zip(windows["write_start"][0], windows["write_end"][0], strict=True):
        if end > 0:
            written[start : end - 1] = True  # a span's last token is a value only
    assert not bool(reach[2][0][~written].any())


def test_the_gradient_of_what_was_written_is_the_finite_difference(make_working, windows) -> None:
    """Rows are linear in the projection, so a large step is exact; spikes after them have no such slope."""
    model = make_working(2).eval()
    weight = model.entry.project.weight

    def written() -> Tensor:
        states = told_and_asked(model, windows).rows.states
        return (
            states * torch.linspace(-1.0, 1.0, states[2:].numel()).view_as(states[2:]).repeat(2, 1, 1)
        ).sum()

    (slope,) = torch.autograd.grad(written(), weight)
    for spot in ((0, 0), (5, 17), (31, 127)):
        ends = []
        for step in (0.5, -1.0):
            with torch.no_grad():
                weight[spot] += step
                ends.append(float(written()))
        with torch.no_grad():
            weight[spot] += 0.5
        assert ends[0] - ends[1] == pytest.approx(float(slope[spot]), rel=1e-3)


def test_rows_are_the_states_before_the_tokens_and_the_tokens_of_the_chosen_spans(
    make_working, windows
) -> None:
    model = make_working(2).eval()
    streams = heard(model)
    out = told_and_asked(model, windows)
    e, width = model.entry(streams[0].detach()), model.stack.width
    asks = Reads(windows["read_start"], windows["read_end"], windows["sessions"])
    held = model.hold(
        windows["input_ids"], asks, writes_of(windows), reset=windows["reset"], mask=windows["attention_mask"]
    )
    at, _ = places(held)
    queries, k, longest = at.shape[1:]
    rows = out.rows.states.unflatten(1, (queries, k, longest - 1))
    seen = out.rows.visible.unflatten(2, (queries, k, longest - 1))
    table = model.backbone.decoder.embed_tokens.weight
    checked = 0
    for b in range(4):
        for q in range(queries):
            last = int(windows["read_end"][b, q]) - 1
            for j in range(k):
                span = range(int(held.start[b, q, j]), int(held.end[b, q, j]))
                row = int(held.row[b, q, j])
                for n, place in enumerate(span[:-1]):
                    key = e[row, place] + model.recency[2 + int(held.recency[b, q, j])]
                    value = model.entry(table[windows["input_ids"][row, place + 1]])
                    torch.testing.assert_close(rows[b, q, j, n, :width], key, rtol=1e-5, atol=1e-5)
                    torch.testing.assert_close(rows[b, q, j, n, width:], value, rtol=1e-5, atol=1e-5)
                    assert bool(seen[b, last, q, j, n])
                    checked += 1
                assert not bool(seen[b, :, q, j, max(len(span) - 1, 0) :].any())
                assert last < 0 or not bool(seen[b, :last, q, j].any())
    assert checked > 20


def test_the_fact_asked_for_is_held(make_working, windows) -> None:
    model = make_working(1)
    asks = Reads(windows["read_start"], windows["read_end"], windows["sessions"])
    held = model.hold(
        windows["input_ids"], asks, writes_of(windows), reset=windows["reset"], mask=windows["attention_mask"]
    )
    tokenizer = model.backbone.tokenizer
    for b in (2, 3):
        for q in range(2):
            answer = windows["input_ids"][b, windows["read_end"][b, q]]
            spot = held.row[b, q, 0], slice(held.start[b, q, 0], held.end[b, q, 0])
            assert bool(held.found[b, q, 0])
            assert held.row[b, q, 0] == b - 2
            assert f" is {tokenizer.decode(answer).strip()}." in tokenizer.decode(windows["input_ids"][spot])


def test_off_is_the_same_to_the_bit(make_model, windows) -> None:
    model = open_gate(make_model()).eval()
    with torch.no_grad():
        a, b = told_and_asked(model, windows), told_and_asked(model, windows, writes=None)
    assert torch.equal(a.logits, b.logits)
    assert a.rows is None


def test_nothing_of_a_later_window_or_of_another_episode_changes_a_logit(make_working, windows) -> None:
    model = make_working(2).eval()
    with torch.no_grad():
        before = told_and_asked(model, windows).logits
        for changed, same in ((2, [0, 1, 3]), (3, [0, 1, 2]), (0, [1, 3]), (1, [0, 2])):
            ids = windows["input_ids"].clone()
            ids[changed, :20] = ids[changed, :20].flip(0)
            after = told_and_asked(model, {**windows, "input_ids": ids}).logits
            assert torch.equal(after[same], before[same]), changed
            assert not torch.equal(after[changed], before[changed])
        ids = windows["input_ids"].clone()
        start, end = windows["write_start"][0, 0], windows["write_end"][0, 0]
        ids[0, start:end] = ids[0, start:end].flip(0)
        assert not torch.equal(told_and_asked(model, {**windows, "input_ids": ids}).logits[2], before[2])


def test_padding_on_the_left_changes_nothing(make_working, windows) -> None:
    model = make_working(2).eval()
    shift = 5

    def padded(name: str, fill: int) -> Tensor:
        value = windows[name]
        return torch.cat([value.new_full((len(value), shift), fill), value], dim=1)

    wide = {**windows, "input_ids": padded("input_ids", 1), "attention_mask": padded("attention_mask", 0)}
    wide |= {"labels": padded("labels", -100), "reset": padded("reset", 0)}
    for name in ("read_start", "read_end", "write_start", "write_end"):
        wide[name] = torch.where(windows[name] >= 0, windows[name] + shift, NO)
    with torch.no_grad():
        plain, moved = told_and_asked(model, windows).logits, told_and_asked(model, wide).logits[:, shift:]
    mask = windows["attention_mask"]
    torch.testing.assert_close(moved[mask], plain[mask], rtol=1e-3, atol=1e-4)


def test_what_t4dx_gives_back_is_read_as_without_a_working_memory(
    make_model, data, memory, writer, windows
) -> None:
    """Its marks of recency are those of an exam, where nothing is held; what is held comes behind."""
    model = make_model(working=1).eval()
    batch = told(data, model, memory, writer)
    plain = asked(model, batch, memory)
    both = asked(model, batch, memory, writes=writes_of(batch))
    rows = plain.rows.states.shape[1]
    assert both.rows.states.shape[1] > rows
    assert torch.equal(both.rows.states[:, :rows], plain.rows.states)
    assert torch.equal(both.rows.visible[..., :rows], plain.rows.visible)
    assert model.recency.shape == (3, 32)


def test_a_negative_number_of_items_is_refused(make_model) -> None:
    with pytest.raises(SettingError, match=r"0 or more: \+\+model\.memory_lm\.working=2$"):
        make_model(working=-1)
