"""Blocks and losses that two or more methods share. torch only."""
