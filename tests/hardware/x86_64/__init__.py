"""Tests of x86-64."""
