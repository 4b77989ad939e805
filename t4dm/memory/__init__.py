"""What a memory is, on top of the store: items, policies, the write gate, search keys, the model's port."""
