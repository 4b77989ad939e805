"""x -> clip(a*x + b, lo, hi): composition, and why deltas cannot just be added up."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t4dm.t4dx.operators import IDENTITY, AffineClip, add, approach_one, assign, scale

unit = st.floats(0, 1)
operators = st.builds(
    lambda a, b, ends: AffineClip(a, b, min(ends), max(ends)),
    st.one_of(st.just(0.0), st.floats(0.001, 4)),
    st.floats(-2, 2),
    st.tuples(unit, unit),
)


@settings(max_examples=60, deadline=None)
@given(operators, operators, operators, st.floats(-1, 2))
def test_composition_is_applying_one_after_the_other(
    f: AffineClip, g: AffineClip, h: AffineClip, x: float
) -> None:
    assert f.then(g)(x) == pytest.approx(g(f(x)), abs=1e-12)
    assert f.then(g).then(h)(x) == pytest.approx(f.then(g.then(h))(x), abs=1e-12)


def test_adding_up_deltas_and_clamping_once_would_give_another_weight() -> None:
    up, down = add(0.7), add(-0.7)
    assert up.then(down)(0.6) == pytest.approx(0.3)  # 0.6 + 0.7 is held at 1.0 first
    assert min(max(0.6 + 0.7 - 0.7, 0.0), 1.0) == pytest.approx(0.6)


def test_named_operators() -> None:
    assert scale(0.5)(0.8) == 0.4
    assert assign(0.3)(0.9) == 0.3
    assert approach_one(0.1)(0.2) == pytest.approx(0.28)
    assert IDENTITY.then(add(0.2)) == AffineClip(1.0, 0.2, 0.0, 1.0)
    assert assign(0.3).then(IDENTITY)(7.0) == 0.3


def test_kappa_approaches_one_and_never_stalls() -> None:
    kappa, step = 0.0, approach_one(0.1)
    for _ in range(100):
        kappa = step(kappa)
    assert 1 - 1e-4 < kappa < 1.0  # 1 - 0.9**100 = 0.99997
