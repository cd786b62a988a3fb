"""The barriers of Arm's processors, which have one syntax and one meaning in both forms of VMSA."""

from __future__ import annotations

from kernmem.hardware.instructions import ProcessorInstructions, instruction


class Barriers(ProcessorInstructions):
    """DDI 0487, B2.3.12; DDI 0406, A3.8.3.  The host does without them."""

    dsb_ishst = instruction(
        "dsb ishst", "Wait until all cores, and their walkers, see the stores so far."
    )
    dsb_ish = instruction("dsb ish", "Wait for the loads, stores and broadcast maintenance so far.")
    dsb_nsh = instruction(
        "dsb nsh", "Wait for the loads, stores and maintenance of this core so far."
    )
    dsb_sy = instruction(
        "dsb sy", "Wait until the whole system, devices too, sees the accesses so far."
    )
    isb = instruction(
        "isb", "Synchronize the context: what follows is fetched and translated anew."
    )
