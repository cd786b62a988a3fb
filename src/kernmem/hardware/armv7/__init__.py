"""ARMv7-A, 32 bits: VMSAv7 with short descriptors.

"DDI 0406" in this folder is the Arm Architecture Reference Manual, ARMv7-A and ARMv7-R edition;
"DDI 0487" is that for A-profile, whose part G describes the same in AArch32.  "DDI 0438" is the
Cortex-A15 Technical Reference Manual.
"""
