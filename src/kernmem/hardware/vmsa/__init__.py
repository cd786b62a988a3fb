"""What Arm's processors have in common: barriers, and in the model what is cached, and until when.

VMSA is the Virtual Memory System Architecture.  Its 32-bit and 64-bit forms differ in the format of
descriptors, in registers and in the names of invalidations; the rules for changing tables are the
same (DDI 0487, D8.16 and D8.17 for AArch64, G5.8 and G5.9 for AArch32).

======================  ====================================================================
:mod:`.barriers`        the instructions that order stores, walks and maintenance
:mod:`.regime`          what those rules ask about a descriptor
:mod:`.stale`           old values of entries that a walk may still use, and until when
:mod:`.tables`          which pages are live tables, and the rules for changing them
:mod:`.spaces`          address spaces that were left, and may still be cached
:mod:`.kept`            their global translations, which are used in every space
:mod:`.core`            barriers, stores and translations
======================  ====================================================================
"""
