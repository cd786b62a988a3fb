"""Looking into a running kernel: its page tables, heap, pages and registries.

Everything here only reads, through the port, so it works on every machine.  It distrusts what it
reads: damage is reported with its address, and never followed.
"""

from kernmem.inspect.heap import Heap, draw_gap_tree, heap_map, read_heap
from kernmem.inspect.heap_reader import Element
from kernmem.inspect.pages import FreeList, PageRegion, page_map, read_free_list, read_regions
from kernmem.inspect.pagetables import MappedRange, Pagetable, read_pagetable
from kernmem.inspect.show import show_registries, show_registry

__all__ = [
    # page tables
    "MappedRange",
    "Pagetable",
    "read_pagetable",
    # the heap
    "Element",
    "Heap",
    "draw_gap_tree",
    "heap_map",
    "read_heap",
    # physical pages
    "FreeList",
    "PageRegion",
    "page_map",
    "read_free_list",
    "read_regions",
    # registries
    "show_registries",
    "show_registry",
]
