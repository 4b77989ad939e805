"""Runs the STDP protocols through Brian2 and writes what it finds to golden/stdp.json.

Brian2 is the outside judge of the rule. It needs an environment of its own:

    python -m venv brian && brian/bin/pip install "brian2==2.9.0" "numpy<2.4"
    brian/bin/python tests/plasticity/make_stdp_golden.py

Nothing of t4dm is imported: the equations below are written out from Pfister & Gerstner 2006, eq. 2-4.
"""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import brian2 as b2
import numpy as np

GOLDEN = Path(__file__).parent / "golden" / "stdp.json"

EQUATIONS = """
dr1/dt = -r1/tau_plus : 1 (event-driven)
dr2/dt = -r2/tau_x : 1 (event-driven)
do1/dt = -o1/tau_minus : 1 (event-driven)
do2/dt = -o2/tau_y : 1 (event-driven)
w : 1
tau_plus : second (constant)
tau_minus : second (constant)
tau_x : second (constant)
tau_y : second (constant)
a_plus : 1 (constant)
a_minus : 1 (constant)
a3_plus : 1 (constant)
a3_minus : 1 (constant)
nearest : 1 (constant)
mu : 1 (constant)
low : 1 (constant)
high : 1 (constant)
"""
# Weights change in a first pathway and traces in a second one, so that coincident spikes form no pair.
PATHWAYS = {
    "pre_reads": "w = clip(w - o1*(a_minus + a3_minus*r2)*clip(w, 0, inf)**mu, low, high)",
    "post_reads": "w = clip(w + r1*(a_plus + a3_plus*o2)*clip(1 - w, 0, inf)**mu, low, high)",
    "pre_takes_up": "r1 = r1*(1 - nearest) + 1; r2 = r2*(1 - nearest) + 1",
    "post_takes_up": "o1 = o1*(1 - nearest) + 1; o2 = o2*(1 - nearest) + 1",
}

TRIPLET = {"a_plus": 5e-10, "a_minus": 7e-3, "a3_plus": 6.2e-3, "a3_minus": 2.3e-4, "tau_x": 101.0}
NEAREST = {"a_plus": 4.6e-3, "a_minus": 3e-3, "a3_plus": 9.1e-3, "a3_minus": 7.5e-9, "tau_x": 575.0}
PAIR = {"a_plus": 0.777 / 60, "a_minus": 0.273 / 60, "a3_plus": 0.0, "a3_minus": 0.0, "tau_x": 101.0}
TAUS = {"tau_plus": 16.8, "tau_minus": 33.7, "tau_y": 125.0, "mu": 0.0, "nearest": False}
RULES: dict[str, dict[str, Any]] = {
    "pair, all to all": {**PAIR, **TAUS},
    "pair, nearest": {**PAIR, **TAUS, "nearest": True},
    "triplet, all to all": {**TRIPLET, **TAUS},
    "triplet, nearest": {**NEAREST, **TAUS, "tau_y": 47.0, "nearest": True},
    "pair, soft bounds": {**PAIR, **TAUS, "a_plus": 0.2, "a_minus": 0.1, "mu": 0.4},
    "pair, hard bounds": {**PAIR, **TAUS, "a_plus": 0.2, "a_minus": 0.1},
}
START = 0.5  # the weight before a rule with bounds


def repeated(pre: list[float], post: list[float], period: float, count: int = 60) -> dict[str, Any]:
    return {"pre": pre, "post": post, "period": period, "count": count, "dt": 1.0}


def poisson(rate: float, seed: int, *, coincident: bool) -> dict[str, Any]:
    """Two trains of a second on a grid of 0.1 ms; `coincident` copies some spikes from one to the other."""
    rng = np.random.default_rng(seed)
    pre, post = (np.flatnonzero(rng.random(10_000) < rate * 1e-4) + 1 for _ in range(2))
    post = np.setdiff1d(post, pre)
    if coincident:
        post = np.union1d(post, pre[::5])
    times = {"pre": [round(0.1 * int(n), 1) for n in pre], "post": [round(0.1 * int(n), 1) for n in post]}
    return {**times, "period": 0.0, "count": 1, "dt": 0.1}


def protocols() -> dict[str, dict[str, Any]]:
    found = {}
    for lag in (-100, -60, -20, -10, -2, 0, 2, 10, 20, 60, 100):
        found[f"Bi & Poo, lag {lag}"] = repeated([200.0], [200.0 + lag], 1000.0)
    for frequency in (10, 20, 40, 50):
        for lag in (-10, 10):
            found[f"Sjöström, {frequency} Hz, lag {lag}"] = repeated([20.0], [20.0 + lag], 1000.0 / frequency)
    for pre, post in (([0, 10], [5]), ([0, 20], [15]), ([0, 20], [5]), ([5], [0, 10]), ([15], [0, 20])):
        shifted = [[200.0 + t for t in times] for times in (pre, post)]
        found[f"Wang, triplet {pre} {post}"] = repeated(*shifted, 1000.0)
    for pre, post in (([0, 30], [5, 25]), ([5, 25], [0, 30])):
        shifted = [[200.0 + t for t in times] for times in (pre, post)]
        found[f"Wang, quadruplet {pre} {post}"] = repeated(*shifted, 1000.0)
    for rate, seed in ((20.0, 1), (50.0, 2), (100.0, 3)):
        found[f"Poisson, {rate:g} Hz"] = poisson(rate, seed, coincident=False)
        found[f"Poisson, {rate:g} Hz, coincident"] = poisson(rate, seed, coincident=True)
    return found


def spikes(protocol: dict[str, Any], side: str) -> np.ndarray:
    starts = protocol["period"] * np.arange(protocol["count"])
    return (starts[:, None] + np.array(protocol[side])[None, :]).ravel()


def population(chosen: list[dict[str, Any]], side: str) -> b2.SpikeGeneratorGroup:
    trains = [spikes(protocol, side) for protocol in chosen]
    index = np.repeat(np.arange(len(trains)), [len(train) for train in trains])
    return b2.SpikeGeneratorGroup(len(trains), index, np.concatenate(trains) * b2.ms)


def judge(chosen: list[dict[str, Any]], rule: dict[str, Any], dt: float) -> list[float]:
    """The change of one synapse for each protocol."""
    b2.start_scope()
    b2.defaultclock.dt = dt * b2.ms
    pre, post = population(chosen, "pre"), population(chosen, "post")
    split = {side: {k: v for k, v in PATHWAYS.items() if k.startswith(side)} for side in ("pre_", "post_")}
    synapses = b2.Synapses(pre, post, EQUATIONS, on_pre=split["pre_"], on_post=split["post_"])
    synapses.connect(j="i")
    for pathway, order in (("pre_reads", 0), ("post_reads", 1), ("pre_takes_up", 2), ("post_takes_up", 3)):
        getattr(synapses, pathway).order = order
    for name, value in rule.items():
        setattr(synapses, name, value * b2.ms if name.startswith("tau") else float(value))
    bounded = rule["mu"] > 0.0 or rule["a_plus"] > 0.1
    synapses.low, synapses.high, synapses.w = (0.0, 1.0, START) if bounded else (-1e9, 1e9, 0.0)
    end = max(float(spikes(protocol, side).max()) for protocol in chosen for side in ("pre", "post"))
    network = b2.Network(pre, post, synapses)
    network.run((end + 1.0) * b2.ms)
    return [float(w) - (START if bounded else 0.0) for w in synapses.w[:]]


def main() -> None:
    b2.prefs.codegen.target = "numpy"
    every = protocols()
    changes: dict[str, dict[str, float]] = {}
    for name, rule in RULES.items():
        changes[name] = {}
        for dt in sorted({protocol["dt"] for protocol in every.values()}):
            group = {key: protocol for key, protocol in every.items() if protocol["dt"] == dt}
            if "bounds" in name:  # the order of two changes in one step is a convention of its own
                group = {k: v for k, v in group.items() if k.startswith("Poisson") and "coinc" not in k}
            if group:
                changes[name] |= dict(zip(group, judge(list(group.values()), rule, dt), strict=True))
    versions = {"brian2": b2.__version__, "numpy": np.__version__, "python": platform.python_version()}
    golden = {
        "judge": versions,
        "made_by": "tests/plasticity/make_stdp_golden.py",
        "units": "times in ms; weights start at 0, with bounds at 0.5",
        "equations": EQUATIONS.strip().splitlines(),
        "pathways": PATHWAYS,
        "rules": RULES,
        "protocols": every,
        "changes": changes,
    }
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
