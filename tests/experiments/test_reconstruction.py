"""What the projections lose: the bound is that of the principal directions, and the table is made."""

from __future__ import annotations

import pytest
import torch

from experiments.reconstruction import measure


def test_the_bound_is_the_share_outside_the_principal_directions() -> None:
    stream = torch.tensor([[[2.0, 0.0, 0.0], [0.0, 5.0, 0.0], [0.0, 0.0, 1.0], [3.0, 0.0, 0.0]]])
    # at length sqrt(3) each: two along the first axis, one along each other
    assert measure.best(stream, 1) == pytest.approx(0.5)
    assert measure.best(stream, 2) == pytest.approx(0.25)
    assert measure.best(stream, 3) == 0.0


def test_the_table_falls_from_the_start_to_the_bound(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["measure", "--steps", "6", "--widths", "64"])
    measure.main()
    row = capsys.readouterr().out.splitlines()[-1]
    start, few, trained, bound = (float(cell) for cell in row.split("|")[2:6])
    assert start > few == trained > bound > 0.0
