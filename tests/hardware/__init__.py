"""Tests of the hardware: formats, MMUs, boards."""
