"""kernmem: a kernel's memory manager, written in Python."""
