"""AArch64: VMSAv8-64, stage 1 of the EL1&0 translation regime.

"DDI 0487" in this folder is the Arm Architecture Reference Manual for A-profile.
"""
