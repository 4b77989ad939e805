"""What a memory is, on top of the store: items, recall policies, the write gate, search keys, and the model's port."""
