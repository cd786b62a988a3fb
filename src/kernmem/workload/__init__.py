"""Workloads: allocation traces recorded from running software, and their replay on a machine."""
