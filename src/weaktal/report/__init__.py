"""What was found, missed and invented: an HTML page, and static figures for papers."""

from weaktal.report.build import run_view
from weaktal.report.page import write_report
from weaktal.report.timeline import RunView, best_cut

__all__ = ["RunView", "best_cut", "run_view", "write_report"]
