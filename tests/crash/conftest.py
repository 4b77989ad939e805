"""The crash tests use the simulated disk of the storage tests."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "t4dx"))
