"""Blocks and losses that two or more methods share. torch only."""

import os

# MKL's products of small matrices may differ in the last bit with where an operand begins in memory, so from
# process to process. In this mode they do not, and take as long; MKL reads it once, before its first product.
os.environ.setdefault("MKL_CBWR", "AUTO")
