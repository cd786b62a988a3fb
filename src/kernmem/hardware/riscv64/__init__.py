"""RISC-V, 64 bits: supervisor mode and its page-based virtual memory.

"Priv" in this folder is "The RISC-V Instruction Set Manual, Volume II: Privileged Architecture",
version 1.12 or later; sections are named, as their numbers differ between versions.
"""
