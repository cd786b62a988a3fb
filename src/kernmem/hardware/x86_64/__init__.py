"""x86-64 ("Intel 64", IA-32e paging).

References: "SDM" is the Intel 64 and IA-32 Architectures Software Developer's Manual; sections
without a volume are of volume 3A.
"""
