"""Tests of AArch64."""
