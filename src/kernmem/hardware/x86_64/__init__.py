"""x86-64 ("Intel 64", IA-32e paging).

References: "SDM" is the Intel 64 and IA-32 Architectures Software Developer's Manual; sections
without a volume are of volume 3A.
"""

BOOT_LINEAR_GIB = 64
"""The boot code's table is linear so far; every 64-bit processor has as many physical addresses."""
