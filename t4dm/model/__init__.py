"""Backbone, cortical stack and memory as one module."""

from t4dm.model.memory_lm import MemoryLM, MemoryLMOutput
from t4dm.model.reads import Reads
from t4dm.model.working_memory import Writes

__all__ = ["MemoryLM", "MemoryLMOutput", "Reads", "Writes"]
