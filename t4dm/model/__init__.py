"""Backbone, cortical stack and memory as one module."""

from t4dm.model.memory_lm import MemoryLM, MemoryLMOutput
from t4dm.model.reads import Reads

__all__ = ["MemoryLM", "MemoryLMOutput", "Reads"]
