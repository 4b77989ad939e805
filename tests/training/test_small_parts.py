"""Event time, recent means and hits, by hand."""

from __future__ import annotations

import math

import torch

from t4dm.training.event_clock import EventClock
from t4dm.training.recent import RecentMean, hits


def test_event_time_never_goes_back():
    clock = EventClock(5.0)
    clock.advance(3.0)
    assert clock() == 5.0
    clock.advance(60.0)
    assert clock() == 60.0


def test_a_recent_mean_forgets_and_starts_as_nan():
    mean = RecentMean(size=2)
    assert math.isnan(mean.value)
    mean.add(10.0, 1)
    mean.add(0.0, 0)
    mean.add(torch.tensor(3.0), torch.tensor(4))
    assert mean.value == 0.75


def test_hits_compare_an_answer_with_what_was_said_before_it():
    ids = torch.tensor([[1, 2, 3, 0]])
    answers = torch.tensor([[True, True, False, True]])
    logits = torch.zeros(1, 4, 5)
    logits[0, 0, 2] = 1.0  # after token 1 the model says 2: right
    logits[0, 2, 4] = 1.0  # after token 3 it says 4: the answer was 0
    right, asked = hits(logits, ids, answers)
    assert (int(right), int(asked)) == (1, 2)
