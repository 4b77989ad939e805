"""Edge homeostasis: what the night's replay did not lift sinks a little."""

from __future__ import annotations

from typing import final

import torch

from t4dm.plasticity.homeostasis import downscaling_factor
from t4dm.sleep.night import ASSOCIATIONS, Night

__all__ = ["Downscale"]


@final
class Downscale:
    """Scale down the weights of associations by rank, sparing the strongest; replay's changes of tonight
    are counted.

    In mouse cortex synapses are 18 % smaller after sleep, while the largest fifth keeps its size (de Vivo
    et al. 2017). Edges follow their own weights, not firing rates: those belong to neurons. MERGED_FROM and
    SUPERSEDES state facts and are left alone, and edges of weight 0 are not counted.

    Args:
        fraction: mean loss of a night.
        spare: share of the strongest edges that lose nothing.
        power: how late the loss vanishes towards them.
    """

    def __init__(self, *, fraction: float = 0.18, spare: float = 0.2, power: float = 4.0) -> None:
        self.fraction = fraction
        self.spare = spare
        self.power = power

    def decide(self, night: Night) -> None:
        # An edge of weight 0 has nothing to lose, and would take the deepest loss from the others.
        weighed = ((edge, night.weight(edge)) for edge in night.view.edges(edge_type=ASSOCIATIONS))
        standing = [(edge, weight) for edge, weight in weighed if weight > 0.0]
        weights = torch.tensor([weight for _, weight in standing], dtype=torch.float64)
        factors = downscaling_factor(weights, fraction=self.fraction, spare=self.spare, power=self.power)
        for (edge, _), factor in zip(standing, factors.tolist(), strict=True):
            if factor < 1.0:
                night.downscale(edge, factor)
