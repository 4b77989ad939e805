"""When to write, sleep, trace, stop and show; what that means is elsewhere."""
