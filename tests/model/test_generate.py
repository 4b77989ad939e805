"""Decoding token by token gives what whole passes give, alone or in a batch; memory is asked when told."""

from __future__ import annotations

import pytest
import torch

from t4dm.errors import NoPromptError, PromptTooLongError, SettingError
from t4dm.memory.policies import SemanticPolicy
from t4dm.model import Reads
from t4dm.model.decoding import begin, keep, padded_left, step
from t4dm.model.generate import generate, generate_batch, positions, recalled
from t4dm.model.sampling import Sampler
from t4dm.spiking.state import map_state

from .conftest import open_gate

PROMPT = " The color of Anna is"
PROMPTS = [PROMPT, " What", " Today Ben walked home. The food of Ben is", " Anna likes"]


def tokens(model, prompts, **settings) -> list[list[int]]:
    rows: list[list[int]] = [[] for _ in prompts]
    for piece in generate_batch(model, prompts, **settings):
        rows[piece.row].append(piece.token)
    return rows


def seeds(count: int, first: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(first + row) for row in range(count)]


def loud(model):
    """A model in which what is recalled moves the logits."""
    open_gate(model).stack.blocks[0].recall.out.weight.data.mul_(100.0)
    return model.eval()


def tell(data, model, memory, writer):
    """Write the first window of the episodes; its batch."""
    batch = data.train_dataloader().batch_at(0, 0)
    out = model(batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["labels"])
    writer.write(model, memory, batch, out)
    memory.flush_accesses()
    return batch


def test_greedy_decoding_with_a_cache_equals_whole_passes(make_model) -> None:
    model = open_gate(make_model(blocks=2)).eval()
    tokenizer = model.backbone.tokenizer
    ids = tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    for _ in range(5):
        with torch.no_grad():
            ids = torch.cat([ids, model(ids).logits[:, -1:].argmax(-1)], dim=1)
    assert "".join(generate(model, PROMPT, max_new_tokens=5)) == tokenizer.decode(ids[0])[len(PROMPT) :]


def test_the_same_generator_draws_the_same_text(make_model) -> None:
    model = open_gate(make_model())
    draw = lambda seed: list(  # noqa: E731
        generate(
            model, PROMPT, max_new_tokens=6, sampler=Sampler(temperature=1.0), generator=seeds(1, seed)[0]
        )
    )
    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("recalling", [False, True])
def test_a_batch_gives_each_prompt_the_tokens_that_it_gets_alone(
    make_model, data, memory, writer, temperature: float, recalling: bool
) -> None:
    model = loud(make_model(blocks=2))
    sessions = tell(data, model, memory, writer)["sessions"]
    asked = {"memory": memory if recalling else None, "refresh": 3, "max_new_tokens": 8}
    asked["sampler"] = Sampler(temperature=temperature, top_p=0.95)
    together = tokens(model, PROMPTS, sessions=sessions, generators=seeds(4), **asked)
    alone = [
        tokens(model, [prompt], sessions=[sessions[row]], generators=seeds(1, row), **asked)[0]
        for row, prompt in enumerate(PROMPTS)
    ]
    assert together == alone
    assert len({tuple(row) for row in together}) == 4
    if recalling:
        assert together != tokens(model, PROMPTS, generators=seeds(4), **{**asked, "memory": None})


def test_sequences_that_end_leave_the_others_their_tokens(make_model) -> None:
    model = open_gate(make_model(blocks=2)).eval()
    whole = tokens(model, PROMPTS, max_new_tokens=8)
    decode = model.backbone.tokenizer.decode
    # each prompt's third token ends it, where the text of that token comes first there
    stop = decode(whole[0][:3])[-1]
    ends = {p.row: p.end for p in generate_batch(model, PROMPTS, max_new_tokens=8, stop=[stop]) if p.end}
    early = tokens(model, PROMPTS, max_new_tokens=8, stop=[stop])
    assert ends[0] == "stop"
    assert len(early[0]) <= 3
    assert any(len(row) == 8 for row in early)
    assert all(row == whole[n][: len(row)] for n, row in enumerate(early))


def test_a_row_that_leaves_moves_no_bit_of_the_others(make_model, data, memory, writer) -> None:
    model = loud(make_model(blocks=2))
    sessions = tell(data, model, memory, writer)["sessions"]
    ids = [model.backbone.tokenizer.encode(prompt) for prompt in PROMPTS]
    found = recalled(model, memory, ids, sessions)
    running = step(model, begin(model, ids, rows=found[1]), [5, 6, 7, 8])
    logits, state = running.logits.clone(), running.state
    left = keep(running, [1, 3])
    assert left.keys == (1, 3)
    assert torch.equal(left.logits, logits[[1, 3]])
    assert left.cache.get_seq_length() == left.mask.shape[1]
    kept = []
    map_state(lambda t: kept.append(t) or t, left.state)
    before = []
    map_state(lambda t: before.append(t[[1, 3]]) or t, state)
    assert len(kept) > 10
    assert all(torch.equal(a, b) for a, b in zip(kept, before, strict=True))
    assert torch.equal(left.rows.states, running.rows.states[[1, 3]])


def test_padding_on_the_left_shifts_no_position(make_model) -> None:
    """Alone and padded, one sequence is at the same positions: logits agree beyond rotary rounding."""
    model = open_gate(make_model(blocks=2)).eval()
    short, long = [5, 6, 7], list(range(10, 200))
    alone = step(model, begin(model, [short]), [9]).logits[0]
    padded = step(model, begin(model, [short, long]), [9, 9]).logits[0]
    torch.testing.assert_close(padded, alone, atol=2e-5, rtol=0)
    ids, mask = padded_left([short, long], device=torch.device("cpu"))
    assert ids[0, -3:].tolist() == short
    assert mask.sum(-1).tolist() == [3, 190]


def test_the_memory_is_asked_once_and_seen_by_every_new_token(make_model, data, memory, writer) -> None:
    model = loud(make_model())
    session = tell(data, model, memory, writer)["sessions"][0]
    fact = next(item.content for item in memory.store.scan() if item.session == session)
    plain = list(generate(model, f" {fact}", max_new_tokens=6))
    recalling = list(generate(model, f" {fact}", max_new_tokens=6, memory=memory, session=session))
    assert plain != recalling
    memory.flush_accesses()
    counts = sorted((item.access_count for item in memory.store.scan()), reverse=True)
    assert counts[:3] == [1, 1, 0]


def test_memories_work_from_the_prompts_last_token_on_as_in_one_pass(
    make_model, data, memory, writer
) -> None:
    model = loud(make_model())
    session = tell(data, model, memory, writer)["sessions"][0]
    ids = torch.tensor([model.backbone.tokenizer.encode(PROMPT)])
    reads = Reads(torch.tensor([[0]]), torch.tensor([[ids.shape[1]]]), [session])
    with torch.no_grad():
        whole = model(ids, reads=reads, memory=memory).logits[0, -1]
    found = recalled(model, memory, ids.tolist(), [session])
    torch.testing.assert_close(begin(model, ids.tolist(), rows=found[1]).logits[0], whole)


@pytest.mark.parametrize(("refresh", "searches"), [(0, 1), (2, 4), (3, 3), (100, 1)])
def test_it_is_asked_again_when_told_with_the_newest_tokens(
    make_model, data, memory, writer, refresh: int, searches: int
) -> None:
    model = loud(make_model())
    session = tell(data, model, memory, writer)["sessions"][0]
    heard = []
    asked = {"memory": memory, "sessions": [session], "max_new_tokens": 8, "refresh": refresh}
    row = tokens(
        model, [PROMPT], on_recall=lambda key, recall: heard.append((key, recall)), query_tokens=4, **asked
    )[0]
    assert len(heard) == searches
    if refresh == 2:
        newest = [*model.backbone.tokenizer.encode(PROMPT), *row[:6]][-4:]
        last = recalled(model, memory, [newest], [session])[0]
        assert heard[-1][1].ids == last.ids


def test_a_policy_decides_what_may_be_recalled_and_a_look_need_not_count(
    make_model, data, memory, writer
) -> None:
    model = loud(make_model())
    session = tell(data, model, memory, writer)["sessions"][0]
    asked = {"memory": memory, "sessions": [session], "max_new_tokens": 4}
    strict = tokens(model, [PROMPT], policy=SemanticPolicy(), **asked)
    assert strict == tokens(model, [PROMPT], max_new_tokens=4)
    tokens(model, [PROMPT], count_accesses=False, **asked)
    assert memory.flush_accesses() == 0


def test_a_model_without_a_stack_or_a_memory_decodes_too(make_model, memory) -> None:
    model = make_model(stack=False)
    assert tokens(model, [PROMPT], memory=memory, max_new_tokens=3) == tokens(
        model, [PROMPT], max_new_tokens=3
    )
    assert tokens(model, []) == []


def test_it_ends_at_the_last_position(make_model) -> None:
    model = make_model()
    most = positions(model)
    pieces = list(generate_batch(model, [[5] * (most - 3)], max_new_tokens=10))
    assert [piece.end for piece in pieces] == ["", "", "length"]
    assert [piece.end for piece in generate_batch(model, [[5] * most], max_new_tokens=10)] == ["length"]


def test_the_end_token_ends_the_text_and_is_no_part_of_it(make_model) -> None:
    model = open_gate(make_model())
    first = tokens(model, [PROMPT], max_new_tokens=3)[0]
    model.language_model.generation_config.eos_token_id = [first[1], 10**6]
    pieces = list(generate_batch(model, [PROMPT], max_new_tokens=3))
    assert [(piece.token, piece.end) for piece in pieces] == [(first[0], ""), (first[1], "end")]
    assert pieces[1].text == ""


def test_the_model_is_left_in_its_mode_even_when_nobody_reads_on(make_model) -> None:
    model = make_model().train()
    pieces = generate_batch(model, [PROMPT])
    next(pieces)
    assert not model.training
    pieces.close()
    assert model.training


@pytest.mark.parametrize("prompt", ["", "  \n", []])
def test_an_empty_prompt_is_a_mistake(make_model, prompt) -> None:
    with pytest.raises(NoPromptError, match=r"t4dm generate run=RUN prompt='Ann lives in'$"):
        generate_batch(make_model(), [PROMPT, prompt])


def test_a_prompt_beyond_the_positions_is_a_mistake(make_model) -> None:
    model = make_model()
    most = positions(model)
    said = rf"has {most + 1} tokens and the model reads at most {most}; shorten it to its last {most} tokens"
    with pytest.raises(PromptTooLongError, match=said):
        generate_batch(model, [[5] * (most + 1)])


@pytest.mark.parametrize("wrong", [{"max_new_tokens": 0}, {"query_tokens": 0}, {"refresh": -1}])
def test_a_number_too_small_is_a_mistake(make_model, wrong) -> None:
    with pytest.raises(SettingError, match=r"does not work; \d or more"):
        generate_batch(make_model(), [PROMPT], **wrong)
