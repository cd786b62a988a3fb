"""The model machine: kernel code interpreted by Python, over simulated RAM and a strict MMU."""

from kernmem.machine.model.machine import Model

__all__ = ["Model"]
