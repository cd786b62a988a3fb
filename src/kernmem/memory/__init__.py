"""The memory manager, one module a chapter of the specification."""
