"""The frozen language model: loading, LoRA, and the tap between its layers."""
