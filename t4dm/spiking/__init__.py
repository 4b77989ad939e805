"""The cortical stack: spiking blocks with state in and state out, batch first, fp32 state."""
