"""Kernels in kernel Python, built on the memory manager."""
