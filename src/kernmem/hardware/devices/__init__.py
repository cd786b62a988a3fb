"""The devices that boards have: one file each, its driver and how simulators see it."""
