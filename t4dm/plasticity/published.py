"""Parameters of the STDP rule that were fitted to measurements, with where they come from.

Times in ms; changes are relative to the weight before the protocol. "Unverified" marks a number that we know
from secondary sources or from memory and have not read in the paper; tests hold what it reproduces.

Bi & Poo 1998, J. Neurosci. 18:10464. Pfister & Gerstner 2006, J. Neurosci. 26:9673, tables 3 and 4.
Sjöström, Turrigiano & Nelson 2001, Neuron 32:1149. Wang et al. 2005, Nat. Neurosci. 8:187.
"""

from __future__ import annotations

from t4dm.plasticity.stdp import STDPParams

# Pair rule for hippocampal culture (Bi & Poo): the change of one of the 60 pairings. The time constants are
# verified; the amplitudes of the whole protocol, 0.777 and 0.273, are unverified.
BI_POO = STDPParams(a_plus=0.777 / 60.0, a_minus=0.273 / 60.0, tau_plus=16.8, tau_minus=33.7)

# Triplet rule for layer 5 of visual cortex, fitted by Pfister & Gerstner to the frequencies of Sjöström et
# al. The NESTML defaults resemble the first set but have A3+ = 9.3e-3, which does not fit these data.
VISUAL_CORTEX_ALL_TO_ALL = STDPParams(
    a_plus=5e-10, a_minus=7e-3, a3_plus=6.2e-3, a3_minus=2.3e-4, tau_x=101.0, tau_y=125.0
)
# Three parameters left free. Unverified: A2- and tau_y (A3+ is verified).
VISUAL_CORTEX_MINIMAL = STDPParams(a_plus=0.0, a_minus=7.1e-3, a3_plus=6.5e-3, tau_y=114.0)
VISUAL_CORTEX_NEAREST = STDPParams(
    a_plus=8.8e-11, a_minus=6.6e-3, a3_plus=5.3e-2, a3_minus=3.1e-3, tau_x=714.0, tau_y=40.0, nearest=True
)

# Triplet rule for hippocampal culture, fitted by Pfister & Gerstner to pairs, triplets and quadruplets of
# Wang et al. Unverified: this set altogether.
HIPPOCAMPAL_ALL_TO_ALL = STDPParams(
    a_plus=6.1e-3, a_minus=1.6e-3, a3_plus=6.7e-3, a3_minus=1.4e-3, tau_x=946.0, tau_y=27.0
)
# Unverified: this set altogether.
HIPPOCAMPAL_MINIMAL = STDPParams(a_plus=5.3e-3, a_minus=3.5e-3, a3_plus=8e-3, tau_y=40.0)
# Unverified: tau_x and tau_y (the amplitudes are verified).
HIPPOCAMPAL_NEAREST = STDPParams(
    a_plus=4.6e-3, a_minus=3e-3, a3_plus=9.1e-3, a3_minus=7.5e-9, tau_x=575.0, tau_y=47.0, nearest=True
)
