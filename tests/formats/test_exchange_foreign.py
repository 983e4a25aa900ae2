"""Files that other tools wrote, or that are made as theirs are; and files that are wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from weaktal import formats
from weaktal.core import Annotations, CoverageWarning, InputError


def found(annotations: Annotations, name: str) -> tuple[list[Any], list[Any], set[str]]:
    """Segments, clicks and labels of a video, by class name; thousandths of a second."""
    v, names = annotations.videos[name], annotations.classes
    it, p = v.instances, v.points
    rows = zip(it.start.tolist(), it.end.tolist(), it.label.tolist(), strict=True)
    clicks = [] if p is None else zip(p.time.tolist(), p.label.tolist(), strict=True)
    return (
        [(round(s, 3), round(e, 3), names[c]) for s, e, c in rows],
        [(round(t, 3), names[c]) for t, c in clicks],
        {names[c] for c in v.labels},
    )


# ------------------------------------------------------------------ files by the formats' own libraries


def test_elan_by_pympi(tmp_path: Path) -> None:
    from pympi.Elan import Eaf

    eaf = Eaf(author="somebody")
    eaf.add_linked_file("file:///videos/My%20film.mp4", mimetype="video/mp4")
    eaf.add_tier("jump")
    eaf.add_annotation("jump", 1500, 2250, "")  # no text: the class is the tier
    eaf.add_annotation("default", 3000, 4000, "run & hide")
    eaf.to_file(str(tmp_path / "session1.eaf"))
    read = formats.load_annotations(tmp_path / "session1.eaf")
    assert found(read, "My film")[0] == [(1.5, 2.25, "jump"), (3.0, 4.0, "run & hide")]


def test_textgrid_by_praatio(tmp_path: Path) -> None:
    from praatio import textgrid

    grid = textgrid.Textgrid()
    grid.addTier(textgrid.IntervalTier("speech", [(0.5, 1.25, 'say "a"'), (2, 3, "")], 0, 10))
    grid.addTier(textgrid.PointTier("bell", [(4.5, "ring")], 0, 10))
    for form in ("long_textgrid", "short_textgrid"):
        grid.save(str(tmp_path / "a.TextGrid"), format=form, includeBlankSpaces=True)
        read = formats.load_annotations(tmp_path / "a.TextGrid")
        assert read.videos["a"].duration == 10
        assert found(read, "a")[:2] == ([(0.5, 1.25, 'say "a"')], [(4.5, "ring")])


def timeline() -> Any:
    import opentimelineio as otio

    time, span = otio.opentime.RationalTime, otio.opentime.TimeRange
    medium = otio.schema.ExternalReference("file:///videos/a.mp4", span(time(0, 25), time(500, 25)))
    jump = otio.schema.Clip("Jump", medium, span(time(25, 25), time(50, 25)))
    jump.markers.append(otio.schema.Marker("Land", span(time(30, 25), time(1, 25))))
    run = otio.schema.Clip("Run", medium.clone(), span(time(100, 25), time(25, 25)))
    track = otio.schema.Track("V1", [jump, run], kind=otio.schema.TrackKind.Video)
    whole = otio.schema.Timeline("demo")
    whole.tracks.append(track)
    return whole


def test_fcpxml_by_opentimelineio(tmp_path: Path) -> None:
    import opentimelineio as otio

    otio.adapters.write_to_file(timeline(), str(tmp_path / "x.fcpxml"), "fcpx_xml")
    read = formats.load_annotations(tmp_path / "x.fcpxml")
    assert (read.videos["a"].duration, read.videos["a"].fps) == (20, 25)
    assert found(read, "a")[:2] == ([(1.0, 3.0, "Jump"), (4.0, 5.0, "Run")], [(1.2, "Land")])


def test_edl_by_opentimelineio(tmp_path: Path) -> None:
    import opentimelineio as otio

    otio.adapters.write_to_file(timeline(), str(tmp_path / "x.edl"), "cmx_3600")
    read = formats.load_annotations(tmp_path / "x.edl", fps=25)
    assert found(read, "a")[0] == [(1.0, 3.0, "Jump"), (4.0, 5.0, "Run")]


def test_ours_by_their_libraries(tmp_path: Path) -> None:
    """What we write is read by pympi, praatio and opentimelineio."""
    import opentimelineio as otio
    from praatio import textgrid
    from pympi.Elan import Eaf

    gt = {
        "database": {"a": {"duration": 20, "fps": 25, "annotations": [{"segment": [1, 3], "label": "Jump"}]}}
    }
    (tmp_path / "gt.json").write_text(json.dumps(gt))
    ours = formats.load_annotations(tmp_path / "gt.json")
    for name in ("a.eaf", "a.TextGrid", "a.edl"):
        formats.save_annotations(ours, tmp_path / name)
    assert Eaf(str(tmp_path / "a.eaf")).get_annotation_data_for_tier("Jump") == [(1000, 3000, "Jump")]
    grid = textgrid.openTextgrid(str(tmp_path / "a.TextGrid"), includeEmptyIntervals=False)
    assert [tuple(e) for e in grid.getTier("Jump").entries] == [(1, 3, "Jump")]
    cut = otio.adapters.read_from_file(str(tmp_path / "a.edl"), "cmx_3600", rate=25)
    clip = next(iter(cut.find_clips()))
    assert (clip.source_range.start_time.value, clip.source_range.duration.value) == (25, 50)


# ------------------------------------------------------------- files with the structure of the tools'


def boris(**change: Any) -> dict[str, Any]:
    """A project with the structure that BORIS 7 and 8 write."""
    project: dict[str, Any] = {
        "time_format": "hh:mm:ss",
        "project_name": "zoo",
        "project_date": "2016-11-27T01:55:22",
        "project_format_version": "7.0",
        "subjects_conf": {"0": {"key": "1", "name": "Ann", "description": ""}},
        "behaviors_conf": {
            "0": {"type": "Point event", "key": "p", "code": "peck", "modifiers": {}, "excluded": ""},
            "1": {"type": "State event", "key": "s", "code": "sleep", "modifiers": {}, "excluded": ""},
        },
        "observations": {
            "day 1": {
                "file": {"1": ["/data/cage 1.mp4", "/data/cage 2.mp4"], "2": []},
                "type": "MEDIA",
                "date": "2016-12-01T23:01:31",
                "time offset": 0.0,
                "events": [
                    [1.8, "", "sleep", "", ""],
                    [2.5, "Ann", "sleep", "", ""],
                    [8.125, "", "sleep", "", ""],
                    [9.0, "Ann", "peck", "", "", 225],
                    [9.5, "Ann", "sleep", "", ""],
                    [180.0, "", "sleep", "", ""],
                    [190.0, "", "sleep", "", ""],
                ],
                "media_info": {
                    "length": {"/data/cage 1.mp4": 179.96, "/data/cage 2.mp4": 60.0},
                    "fps": {"/data/cage 1.mp4": 25.0, "/data/cage 2.mp4": 25.0},
                },
            },
            "watched": {"file": [], "type": "LIVE", "events": [[2.0, "", "peck", "", ""]]},
        },
        "independent_variables": {},
    }
    return project | change


def test_boris_project(tmp_path: Path) -> None:
    (tmp_path / "p.boris").write_text(json.dumps(boris()))
    read = formats.load_annotations(tmp_path / "p.boris")
    assert read.classes == ("peck", "sleep")
    assert found(read, "cage 1")[:2] == ([(1.8, 8.125, "sleep"), (2.5, 9.5, "sleep")], [(9.0, "peck")])
    assert found(read, "cage 2")[0] == [(0.04, 10.04, "sleep")]
    assert found(read, "watched")[1] == [(2.0, "peck")]
    assert (read.videos["cage 1"].duration, read.videos["cage 1"].fps) == (179.96, 25)


def test_boris_events_that_never_stop_and_videos_seen_twice(tmp_path: Path) -> None:
    project = boris()
    day = project["observations"]["day 1"]
    day["file"] = {"1": ["/data/cage 1.mp4"]}
    day["events"] = day["events"][:1]
    project["observations"]["again"] = dict(day)
    (tmp_path / "p.boris").write_text(json.dumps(project))
    with pytest.warns(CoverageWarning) as caught:
        read = formats.load_annotations(tmp_path / "p.boris")
    text = " ".join(str(w.message) for w in caught)
    assert "2 state events never stop and are left out" in text
    assert "'cage 1' is in several observations, which are named by observation" in text
    assert list(read.videos) == ["day 1", "watched", "again"]


OLD = (
    "Observation id\tday 1\t\t\n\nMedia file(s)\nPlayer #1\tcage.mp4\n\n"
    "Time\tMedia file path\tTotal length\tFPS\tSubject\tBehavior\tBehavioral category\tComment\tStatus\n"
)
NEW = (
    "Observation id\tObservation date\tMedia duration (s)\tFPS (frame/s)\tSubject\tBehavior\tBehavior type\t"
    "Time\tMedia file name\n"
)
AGGREGATED = (
    "Observation id,Media file,Total length,FPS,Subject,Behavior,Modifiers,Behavior type,"
    "Start (s),Stop (s),Duration (s)\n"
)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "old.tsv",
            OLD
            + "".join(
                f"{t}\tcage.mp4\t359.960\t25.0\tAnn\t{b}\t\t\t{s}\n"
                for t, b, s in (
                    ("3.300", "sleep", "START"),
                    ("4.0", "peck", "POINT"),
                    ("7.750", "sleep", "STOP"),
                )
            ),
        ),
        (
            "new.tsv",
            NEW
            + "".join(
                f"day 1\t2016-11-27\t359.960\t25.0\tAnn\t{b}\t{s}\t{t}\tcage.mp4\n"
                for t, b, s in (
                    ("3.300", "sleep", "START"),
                    ("4.0", "peck", "POINT"),
                    ("7.750", "sleep", "STOP"),
                )
            ),
        ),
        (
            "all.csv",
            AGGREGATED
            + "day 1,cage.mp4,359.960,25.0,Ann,sleep,,STATE,3.300,7.750,4.45\n"
            + "day 1,cage.mp4,359.960,25.0,Ann,peck,,POINT,4.000,4.000,NA\n",
        ),
    ],
)
def test_boris_events(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    read = formats.load_annotations(tmp_path / name)
    assert found(read, "cage")[:2] == ([(3.3, 7.75, "sleep")], [(4.0, "peck")])
    assert (read.videos["cage"].duration, read.videos["cage"].fps) == (359.96, 25)


def test_label_studio(tmp_path: Path) -> None:
    def region(sort: str, value: dict[str, Any]) -> dict[str, Any]:
        about = {"id": "x1", "from_name": "l", "to_name": "video", "origin": "manual", "type": sort}
        return about | {"value": value}

    tasks = [
        {
            "id": 7,
            "data": {"video": "/data/upload/3/0a1b2c3d-clip.mp4"},
            "annotations": [
                {"was_cancelled": True, "result": []},
                {
                    "completed_by": 1,
                    "result": [
                        region(
                            "timelinelabels",
                            {"ranges": [{"start": 25, "end": 48}], "timelinelabels": ["Jump"]},
                        ),
                        region(
                            "timelinelabels",
                            {"ranges": [{"start": 13, "end": 13}], "timelinelabels": ["Land"]},
                        ),
                        region("choices", {"choices": ["outdoors"]}),
                        region("rating", {"rating": 4}),
                    ],
                },
            ],
            "predictions": [],
        },
        {
            "id": 8,
            "data": {"video": "/data/local-files/?d=movies/b.mp4"},
            "annotations": [
                {"result": [region("labels", {"start": 1.5, "end": 2.5, "channel": 0, "labels": ["Jump"]})]}
            ],
        },
    ]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    with pytest.warns(CoverageWarning, match="1 regions are left out"):
        read = formats.load_annotations(tmp_path / "export.json", fps=24)
    assert found(read, "clip") == ([(1.0, 2.0, "Jump")], [(0.5, "Land")], {"Jump", "Land", "outdoors"})
    assert found(read, "b")[0] == [(1.5, 2.5, "Jump")]
    with pytest.raises(InputError, match="clip: this format counts frames, and the frame rate"):
        formats.load_annotations(tmp_path / "export.json")


def test_via(tmp_path: Path) -> None:
    def attribute(name: str, anchor: str, sort: int, options: dict[str, str]) -> dict[str, Any]:
        return {
            "aname": name,
            "anchor_id": anchor,
            "type": sort,
            "desc": "",
            "options": options,
            "default_option_id": "",
        }

    project = {
        "project": {"pid": "__VIA_PROJECT_ID__", "pname": "p", "vid_list": ["1"]},
        "config": {},
        "attribute": {
            "1": attribute("TEMPORAL-SEGMENTS", "FILE1_Z2_XY0", 4, {"default": "Default", "0": "wave"}),
            "2": attribute("note", "FILE1_Z1_XY0", 1, {}),
        },
        "file": {
            "1": {"fid": "1", "fname": "Alioli.ogv", "type": 4, "loc": 2, "src": "https://x.org/Alioli.ogv"}
        },
        "view": {"1": {"fid_list": ["1"]}},
        "metadata": {
            "1_a": {"vid": "1", "flg": 0, "z": [2.0, 3.5], "xy": [], "av": {"1": "0"}},
            "1_b": {"vid": "1", "flg": 0, "z": [5.25], "xy": [], "av": {"2": "clap"}},
        },
    }
    (tmp_path / "via.json").write_text(json.dumps(project))
    read = formats.load_annotations(tmp_path / "via.json")
    assert found(read, "Alioli")[:2] == ([(2.0, 3.5, "wave")], [(5.25, "clap")])
    assert read.classes == ("wave", "clap")


def test_fiftyone(tmp_path: Path) -> None:
    labels = {"classes": ["cat", "dog"], "labels": {"u1": [{"label": 1, "timestamps": [0.5, 2]}], "u2": None}}
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    read = formats.load_annotations(tmp_path / "labels.json")
    assert found(read, "u1")[0] == [(0.5, 2.0, "dog")]
    assert list(read.videos) == ["u1", "u2"]
    detection = {
        "_cls": "TemporalDetection",
        "attributes": {},
        "tags": [],
        "label": "cat",
        "support": [26, 50],
    }
    sample = {
        "_id": {"$oid": "5f"},
        "filepath": "/data/a.mp4",
        "tags": ["test"],
        "metadata": {"_cls": "VideoMetadata", "duration": 8.0, "frame_rate": 25.0, "total_frame_count": 200},
        "_media_type": "video",
        "events": {"_cls": "TemporalDetections", "detections": [detection]},
        "weather": {"_cls": "Classification", "label": "sunny"},
    }
    (tmp_path / "samples.json").write_text(json.dumps({"samples": [sample]}))
    read = formats.load_annotations(tmp_path / "samples.json")
    assert found(read, "a") == ([(1.0, 2.0, "cat")], [], {"cat", "sunny"})
    assert (read.videos["a"].subset, read.videos["a"].duration) == ("test", 8.0)


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version>
 <meta><task><id>5</id><name>t</name><size>100</size><mode>interpolation</mode><frame_filter></frame_filter>
  <labels><label><name>car</name><attributes></attributes></label></labels></task>
  <source>street.mp4</source></meta>
 <track id="0" label="car" source="manual">
  <box frame="10" keyframe="1" outside="0" occluded="0" xtl="1" ytl="2" xbr="3" ybr="4" z_order="0"></box>
  <box frame="11" keyframe="0" outside="0" occluded="0" xtl="1" ytl="2" xbr="3" ybr="4" z_order="0"></box>
  <box frame="30" keyframe="1" outside="1" occluded="0" xtl="1" ytl="2" xbr="3" ybr="4" z_order="0"></box>
  <box frame="90" keyframe="1" outside="0" occluded="0" xtl="1" ytl="2" xbr="3" ybr="4" z_order="0"></box>
  <box frame="99" keyframe="0" outside="0" occluded="0" xtl="1" ytl="2" xbr="3" ybr="4" z_order="0"></box>
 </track></annotations>"""


def test_cvat(tmp_path: Path) -> None:
    (tmp_path / "annotations.xml").write_text(CVAT)
    read = formats.load_annotations(tmp_path / "annotations.xml", fps={"street": 10})
    assert found(read, "street")[0] == [(1.0, 3.0, "car"), (9.0, 10.0, "car")]
    assert read.videos["street"].duration == 10
    with pytest.raises(InputError, match=r"annotations\.xml: street: this format counts frames"):
        formats.load_annotations(tmp_path / "annotations.xml")


def test_subtitles_of_others(tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_bytes(
        b"\xef\xbb\xbf1\r\n00:00:01,500 --> 00:01:02,250 X1:40\r\n<i>Jump</i>\r\nhigh\r\n\r\n\r\n"
        b"2\r\n00:01:03,5 --> 00:01:04,000\r\n{\\an8}Run\r\n"
    )
    assert found(formats.load_annotations(tmp_path / "a.srt"), "a")[0] == [
        (1.5, 62.25, "Jump high"),
        (63.5, 64.0, "Run"),
    ]
    (tmp_path / "b.vtt").write_text(
        "WEBVTT - title\nKind: captions\n\nSTYLE\n::cue { color: red }\n\nNOTE hello\n\nintro\n"
        "00:01.000 --> 00:02.000 align:start\n<v Ann>Jump &amp; run</v>\n"
    )
    assert found(formats.load_annotations(tmp_path / "b.vtt"), "b")[0] == [(1.0, 2.0, "Jump & run")]


def test_audacity_labels(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("0.500000\t1.250000\tbark\n\\\t300.0\t900.0\n2.000000\t2.000000\tclick\n")
    assert found(formats.load_annotations(tmp_path / "a.txt"), "a")[:2] == (
        [(0.5, 1.25, "bark")],
        [(2.0, "click")],
    )


def test_camtrap(tmp_path: Path) -> None:
    (tmp_path / "media.csv").write_text(
        "mediaID,deploymentID,timestamp,filePath,filePublic,fileMediatype\n"
        "m1,d1,2020-03-24T11:21:40Z,media/IMG001.mp4,true,video/mp4\n"
        "m2,d1,2020-03-24T12:00:00+01:00,media/IMG002.mp4,true,video/mp4\n"
        "m3,d1,2020-03-24T13:00:00Z,media/IMG003.mp4,true,video/mp4\n"
    )
    head = (
        "observationID,deploymentID,mediaID,eventID,eventStart,eventEnd,observationLevel,observationType,"
        "scientificName,behavior\n"
    )
    rows = (
        "o1,d1,m1,,2020-03-24T11:21:46Z,2020-03-24T11:21:50Z,media,animal,Vulpes vulpes,walking | foraging\n"
        "o2,d1,m2,,2020-03-24T11:00:03Z,2020-03-24T11:00:03Z,media,animal,Vulpes vulpes,\n"
        "o3,d1,,e1,2020-03-24T11:00:03Z,2020-03-24T11:00:03Z,event,animal,Vulpes vulpes,\n"
        "o4,d1,m3,,2020-03-24T13:00:00Z,2020-03-24T13:00:30Z,media,blank,,\n"
        "o5,d1,m1,,2020-03-24T11:21:55Z,2020-03-24T11:22:00Z,media,blank,,\n"
    )
    (tmp_path / "observations.csv").write_text(head + rows)
    for path in (tmp_path, tmp_path / "observations.csv"):
        with pytest.warns(
            CoverageWarning, match="1 observations of events, and not of a medium are left out"
        ):
            read = formats.load_annotations(path)
        assert found(read, "IMG001")[0] == [(6.0, 10.0, "foraging"), (6.0, 10.0, "walking")]
        assert found(read, "IMG002")[1] == [(3.0, "Vulpes vulpes")]
        assert [v.empty for v in read] == [False, False, True]  # one is blank, and of one a part is
    (tmp_path / "media.csv").unlink()
    with pytest.raises(
        InputError, match=r"not known when this medium begins: found 'm1', expected a row of it"
    ):
        formats.load_annotations(tmp_path)


def test_frame_table_of_others(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("frame;groom;rear\n0;0;1\n1;1;1\n2;1;0\n3;0;0\n")
    read = formats.load_annotations(tmp_path / "a.csv", fps=10)
    assert found(read, "a")[0] == [(0.0, 0.2, "rear"), (0.1, 0.3, "groom")]
    assert (read.videos["a"].duration, read.classes) == (0.4, ("groom", "rear"))


# ------------------------------------------------------------------------------------------ wrong files

BOMB = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "x"><!ENTITY c "&b;&b;">]><annotations>&c;</annotations>'
FILE = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><fcpxml>&b;</fcpxml>'


@pytest.mark.parametrize(
    ("file", "format", "text", "message"),
    [
        ("a.xml", "cvat", BOMB, "XML that declares entities is not read"),
        ("a.fcpxml", None, FILE, "XML that declares entities is not read"),
        ("a.eaf", None, BOMB, "XML that declares entities is not read"),
        ("a.eaf", None, "<ANNOTATION_DOCUMENT>", "malformed XML: no element found: line 1"),
        ("a.eaf", None, "<html/>", "no ELAN file: found 'html'"),
        ("a.eaf", None, "<ANNOTATION_DOCUMENT/>", "not as ELAN writes it: found KeyError"),
        ("a.fcpxml", None, "<xmeml/>", "no FCPXML: found 'xmeml'"),
        (
            "a.fcpxml",
            None,
            '<fcpxml><resources><asset id="r1" src="a.mp4" duration="1/0s"/></resources></fcpxml>',
            r"asset r1: expected a time: found '1/0s', expected 1001/30000s",
        ),
        ("a.xml", "cvat", "<annotations><image id='0'/></annotations>", "annotations of pictures"),
        (
            "a.xml",
            "cvat",
            "<annotations><track label='x'><box frame='one' outside='0'/></track></annotations>",
            "track 0: expected a number: found 'one'",
        ),
        ("a.srt", None, "hello\n\nworld", r"line 1: a block that is no cue: found 'hello'"),
        ("a.srt", None, "1\n00:00:01 --> 00:00:02\nx", r"line 2: no times of a cue"),
        ("a.srt", None, "1\n00:00:03,000 --> 00:00:02,000\nx", r"line 2: a segment ends before it starts"),
        ("a.vtt", None, "WEBVTT\n\n00:01.000 --> 00:02.000\n", r"line 3: a cue without a text"),
        ("a.edl", None, "001  AX V C 00:00:00:00 00:00\n", r"line 1: this event cannot be read"),
        ("a.TextGrid", None, "hello", "no TextGrid: found b'hello'"),
        (
            "a.TextGrid",
            None,
            'File type = "ooTextFile"\nObject class = "TextGrid"\n',
            "not as Praat writes it",
        ),
        ("a.txt", "audacity", "1.0\t2.0\n", r"line 1: expected a label"),
        ("a.txt", "audacity", "1.0\tx\ty\n", r"line 1: expected a number: found 'x'"),
        (
            "a.csv",
            "frame-table",
            "frame,x\n1,0\n",
            r"line 2: frames are counted from 0, each once: found 1, expected 0",
        ),
        ("a.csv", "frame-table", "frame,x\n0,2\n", r"line 2, x: expected 0 or 1: found '2'"),
        ("a.csv", "frame-table", "frame,x\n0\n", r"line 2: a row of another width"),
        (
            "a.csv",
            "camtrap-dp",
            "mediaID,eventStart,eventEnd\nm,now,now\n",
            r"line 2: expected a date: found 'now'",
        ),
        ("a.tsv", "boris-events", "a\tb\n", "no export of events from BORIS"),
        (
            "a.tsv",
            None,
            NEW + "d\t\t1\t25\t\tx\tSTOP\t1\tc.mp4\n",
            r"line 2: a state event stops that did not start",
        ),
        (
            "a.tsv",
            None,
            NEW + "d\t\t1\t25\t\tx\tMAYBE\t1\tc.mp4\n",
            r"line 2: no type of event: found 'MAYBE'",
        ),
        ("a.boris", None, "{}", "no BORIS project: found null"),
        (
            "a.boris",
            None,
            json.dumps(boris(behaviors_conf={"0": {"code": "peck", "type": "Sometimes"}})),
            r"behaviors_conf\.0: expected a behaviour",
        ),
        (
            "a.boris",
            None,
            json.dumps(boris(observations={"o": {"file": {}, "events": [[1.0, "", "fly"]]}})),
            r"observations\.o\.events\[0\]: a behaviour that the project lacks: found 'fly'",
        ),
        ("a.json", "label-studio", '[{"data": {}}]', r"\[0\]\.data: a task without a video"),
        ("a.json", "via", '{"attribute": {}, "file": 3, "metadata": {}}', "file: expected objects: found 3"),
        (
            "a.json",
            "fiftyone",
            '{"classes": [], "labels": {"a": [{"label": 3}]}}',
            r"labels\.a\[0\]: no such class",
        ),
        ("a.json", "elam", "{}", r"no such format: found 'elam'.*did you mean 'elan'\?"),
    ],
)
def test_wrong_files(tmp_path: Path, file: str, format: str | None, text: str, message: str) -> None:
    (tmp_path / file).write_text(text)
    with pytest.raises(InputError, match=message) as error:
        formats.load_annotations(tmp_path / file, format=format, fps=25)
    assert len(str(error.value).splitlines()) == 1
    assert file in str(error.value)


def test_a_folder_with_two_files_of_one_video(tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_text("")
    (tmp_path / "a.vtt").write_text("WEBVTT\n")
    with pytest.raises(InputError, match=r"a\.vtt: two files of one video: found a\.srt"):
        formats.load_annotations(tmp_path)
