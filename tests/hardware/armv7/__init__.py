"""Tests of ARMv7-A: formats, the simulated MMU, the driver, the board."""
