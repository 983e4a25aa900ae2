"""Whole jobs on files, without a network: what is in them, from one format to another, evaluation."""
