"""A student where actions are clicked: the detector of the student, one pseudo label a click."""

from __future__ import annotations

from typing import ClassVar, Literal

from weaktal.methods.student import Student


class StudentOfPoints(Student):
    """The student of a point-level teacher; see `weaktal.methods.student`."""

    name: ClassVar[str] = "student_points"
    supervision: ClassVar[Literal["video", "point"]] = "point"
    base: ClassVar[str | None] = "lac"
