"""Tests of RISC-V: formats, the simulated MMU, the driver, the board."""
