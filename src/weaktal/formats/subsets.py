"""Subset names: every file has its own words for training and test."""

from __future__ import annotations

from weaktal.core import Annotations, InputError, did_you_mean

# In the order of preference. A file with "validation" and "test" and no training subset (THUMOS14 as W-TALC
# stores it) trains on "validation".
TRAIN = ("train", "training", "validation", "val")
TEST = ("test", "testing", "validation", "val")


def subset_name(annotations: Annotations, role_or_name: str) -> str:
    """The file's own word for a subset.

    Args:
        annotations: the annotations.
        role_or_name: the file's own word, or one of our roles "train" and "test", understood in every
            spelling: train/training, and where there is none validation/val; test/testing, and where there
            is none, or none that is annotated (ActivityNet withholds it), validation/val. Annotations
            without any subset are the subset that is asked for, whichever it is.

    Raises:
        InputError: there is no such subset.
    """
    if not annotations.subsets:
        return role_or_name
    known = {name.lower(): name for name in annotations.subsets}
    annotated = {
        v.subset.lower()
        for v in annotations
        if v.subset is not None and (len(v.instances) or v.labels or v.complete)
    }
    if role_or_name == "train":
        found = [known[n] for n in TRAIN if n in known]
        if found and not (found[0].lower() in TEST and subset_name(annotations, "test") == found[0]):
            return found[0]
    elif role_or_name == "test":
        for names in (annotated, set(known)):
            found = [known[n] for n in TEST if n in names]
            if found:
                return found[0]
    elif role_or_name in annotations.subsets:
        return role_or_name
    raise InputError(
        "no video in this subset",
        found=repr(role_or_name),
        expected="one of " + ", ".join(map(repr, annotations.subsets)),
        hint=did_you_mean(role_or_name, annotations.subsets),
    )
