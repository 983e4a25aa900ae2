"""Which code is loaded, and because of whose word."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from weaktal.core import InputError
from weaktal.features.extract.backbone import BUILT_IN, load_backbone
from weaktal.features.extract.driver import Job

OWN = str(Path(__file__).parent / "own_backbone.py")


@pytest.mark.parametrize("name", ["os:system", "subprocess:run", f"{OWN}:Brightness", "weaktal.cli:main"])
def test_a_name_from_a_file_runs_no_code(name: str, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    options = {"command": f"touch {marker}"}
    with pytest.raises(InputError, match=r"code is loaded from the command line alone.*--backbone"):
        load_backbone(name, options)
    with pytest.raises(InputError, match="code is loaded from the command line alone"):
        Job(name, options, trusted=False).build()
    assert not marker.exists()


def test_the_users_own_word_counts() -> None:
    pytest.importorskip("av")
    assert load_backbone(f"{OWN}:Brightness", trusted=True).describe().backbone == "brightness"
    assert Job(f"{OWN}:Brightness").build().describe().backbone == "brightness"


@pytest.mark.parametrize("name", [None, 3, ["motion"], {"a": 1}])
def test_what_is_no_name(name: object) -> None:
    with pytest.raises(InputError):
        load_backbone(name)  # type: ignore[arg-type]


def test_built_in_names_need_no_trust() -> None:
    pytest.importorskip("cv2")
    assert "motion" in BUILT_IN
    about = load_backbone("motion").describe()
    assert json.dumps(about.header())
