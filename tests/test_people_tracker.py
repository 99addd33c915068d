"""People: one event for one person, whatever single frames say."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
import supervision as sv

from live_scenes import BARE, EMPTY, MASK, MODEL, START, WRONG, Play, draw_person, face, faces, frame
from maskwatch.errors import OptionError
from maskwatch.live.capture.frame import LiveFrame
from maskwatch.live.tracking.alerts import AlertSettings
from maskwatch.live.tracking.face_tracker import TrackSettings
from maskwatch.live.tracking.faces import merge_classes
from maskwatch.live.tracking.people_tracker import PeopleTracker
from maskwatch.live.tracking.settings import PeopleSettings
from maskwatch.live.tracking.zones import Line, Zone, Zones
from maskwatch.models import ModelMetadata

ALERTS = AlertSettings(dwell_s=2.0, cooldown_s=10.0, place_cooldown_s=5.0)
SETTINGS = PeopleSettings(ALERTS, tracks=TrackSettings(lost_s=2.0, reach=1.0))
HERE, THERE = face(100), face(450)
RIGHT = Zone("right", ((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0)))


def play(settings: PeopleSettings = SETTINGS, zones: Zones | None = None) -> Play:
    return Play(PeopleTracker("door", "run-1", MODEL, settings, zones))


def alerting(alerts: AlertSettings) -> PeopleSettings:
    return PeopleSettings(alerts, tracks=SETTINGS.tracks)


def test_one_event_for_one_person_who_stays() -> None:
    scenes = play().show(1, (HERE, MASK)).show(20, (HERE, BARE))
    (alert,) = [event for _, event in scenes.events if event.kind == "alert"]
    assert scenes.summary() == [(pytest.approx(3.0, abs=0.11), "alert", "no_mask", None)]
    assert (alert.source, alert.run, alert.track, alert.zone) == ("door", "run-1", 1, None)
    assert (alert.model, alert.model_version) == ("made-up", "7")
    assert (alert.width, alert.height) == (600, 400)
    assert alert.box_xyxy == HERE
    assert alert.duration_s == pytest.approx(2.0, abs=0.11)
    assert alert.time == START + timedelta(seconds=scenes.summary()[0][0])
    assert alert.score is not None
    assert 0.5 < alert.score < 1


def test_masks_make_none() -> None:
    assert play().show(20, (HERE, MASK)).finish().summary() == []


def test_shorter_than_the_dwell_makes_none() -> None:
    assert play().show(1.9, (HERE, BARE)).show(5).summary() == []


def test_a_hand_before_the_mouth_and_a_flicker_change_nothing() -> None:
    scenes = play().show(4, (HERE, BARE))
    for seconds, scores in ((0.5, MASK), (2, BARE), (0.1, WRONG), (0.1, MASK), (0.1, WRONG), (3, BARE)):
        scenes.show(seconds, (HERE, scores))
    assert [kind for _, kind, _, _ in scenes.summary()] == ["alert"]
    assert scenes.scene is not None
    assert scenes.scene.people[0].since_s == pytest.approx(9.6)


def test_a_mask_that_slips_for_a_moment_is_no_alert() -> None:
    scenes = play().show(4, (HERE, MASK))
    for _ in range(10):
        scenes.show(0.3, (HERE, BARE)).show(0.7, (HERE, MASK))
    assert scenes.summary() == []


def test_a_drop_out_of_a_second_is_the_same_person() -> None:
    scenes = play().show(3, (HERE, BARE)).show(1).show(3, (HERE, BARE)).skip(1.5).show(3, (HERE, BARE))
    assert [kind for _, kind, _, _ in scenes.summary()] == ["alert"]
    assert scenes.scene is not None
    assert scenes.scene.people[0].track == 1


def test_out_of_sight_a_person_is_kept_and_makes_no_alert() -> None:
    scenes = play().show(1.5, (HERE, BARE)).show(1.9)
    assert scenes.scene is not None
    (person,) = scenes.scene.people
    assert (person.seen, person.state, scenes.summary()) == (False, "no_mask", [])
    np.testing.assert_allclose(person.box_xyxy, HERE)
    scenes.show(0.3)
    assert scenes.scene.people == ()


def test_who_leaves_ends_the_alert() -> None:
    scenes = play().show(5, (HERE, BARE)).show(4)
    assert [row[1:] for row in scenes.summary()] == [
        ("alert", "no_mask", None),
        ("alert_end", "no_mask", "left"),
    ]
    alert, end = (event for _, event in scenes.events)
    assert end.alert == alert.id
    assert end.duration_s == pytest.approx(4.8), "from the second frame, the first with a number, to the last"


def test_a_mask_that_is_put_on_ends_the_alert() -> None:
    scenes = play().show(5, (HERE, BARE)).show(4, (HERE, MASK))
    (_, kind, state, reason) = scenes.summary()[-1]
    assert (kind, state, reason) == ("alert_end", "no_mask", "changed")
    end = scenes.events[-1][1]
    assert end.duration_s == pytest.approx(4.9), "from the second frame to the first with a mask"
    assert 0.4 < float(end.score or 0) < 0.9, "of the state that has ended, not of the new one"
    assert end.id != end.alert


def test_incorrect_is_a_state_of_its_own() -> None:
    settings = alerting(AlertSettings(2.0, cooldown_s=0.0))
    scenes = play(settings).show(5, (HERE, WRONG)).show(6, (HERE, BARE))
    assert [row[1:] for row in scenes.summary()] == [
        ("alert", "mask_incorrect", None),
        ("alert_end", "mask_incorrect", "changed"),
        ("alert", "no_mask", None),
    ]


def test_cooldown_of_a_person() -> None:
    """The mask goes on at 5 s and off again at 9 s; 10 s must have passed since the mask went on."""
    scenes = play().show(5, (HERE, BARE)).show(4, (HERE, MASK)).show(12, (HERE, BARE))
    alerts = [time_s for time_s, kind, _, _ in scenes.summary() if kind == "alert"]
    end = next(time_s for time_s, kind, _, _ in scenes.summary() if kind == "alert_end")
    assert len(alerts) == 2
    assert end == pytest.approx(5.8, abs=0.11), "told when the mask has been seen for long enough"
    assert alerts[1] == pytest.approx(15.0, abs=0.11)


def test_a_new_track_at_the_same_place_does_not_alert_again_at_once() -> None:
    scenes = play().show(5, (HERE, BARE)).show(2.2).show(2.5, (HERE, BARE))
    assert [kind for _, kind, _, _ in scenes.summary()] == ["alert", "alert_end"]
    assert scenes.scene is not None
    assert scenes.scene.people[0].track == 2
    scenes.show(1, (HERE, BARE))
    kinds = [kind for _, kind, _, _ in scenes.summary()]
    assert kinds == ["alert", "alert_end", "alert"], "5 s after the last sight"


def test_somebody_new_elsewhere_alerts() -> None:
    scenes = play().show(5, (HERE, BARE)).show(2.5).show(2.5, (THERE, BARE))
    assert [kind for _, kind, _, _ in scenes.summary()] == ["alert", "alert_end", "alert"]


def test_cooldown_of_a_zone() -> None:
    settings = alerting(AlertSettings(2.0, 10.0, 0.0, zone_cooldown_s=8.0))
    both = ((HERE, BARE), (face(200), BARE))
    assert len(play(settings).show(6, *both).summary("alert")) == 1
    assert len(play(settings).show(12, *both).summary("alert")) == 2
    apart = ((HERE, BARE), (THERE, BARE))
    zoned = play(settings, Zones((RIGHT,))).show(6, *apart)
    assert [event.zone for _, event in zoned.events] == [None, "right"]


def test_two_people_who_cross_are_two_events() -> None:
    scenes = play()
    for number in range(80):
        x = 50 + 6 * number
        rows = [(face(x, 200), BARE), (face(550 - x, 228), MASK)]
        if 38 <= number <= 45:
            rows.pop()
        scenes.step(*rows)
    assert [row[1:] for row in scenes.summary()] == [("alert", "no_mask", None)]
    assert scenes.scene is not None
    assert [person.state for person in scenes.scene.people] == ["no_mask", "mask"]


def test_masked_and_bare_who_meet_and_turn_back_keep_their_states() -> None:
    people, events = PeopleTracker("door", "run", MODEL, SETTINGS), []
    for number in range(60):
        aside = 8 + 8 * abs(number - 30)
        bare, masked = (face(300 - aside), BARE), (face(300 + aside), MASK)
        image = EMPTY + np.uint8(110)
        draw_person(image, masked[0], clothes=(30, 60, 160))
        draw_person(image, bare[0], clothes=(190, 40, 40))
        found = faces(bare) if 26 <= number <= 34 else faces(bare, masked)
        scene = people.update(replace(frame(number / 10, number), image_rgb=image), found)
        events += [(event.kind, event.state, event.track) for event in scene.events]
    assert [(person.track, person.state) for person in scene.people] == [(1, "no_mask"), (2, "mask")]
    assert events == [("alert", "no_mask", 1)]


def test_a_double_box_is_one_person() -> None:
    """A profile that the model finds twice, in boxes that overlap by 0.38."""
    twice = sv.Detections(
        np.array([face(100), face(118)], np.float32), None, np.array([0.8, 0.6], np.float32), np.array([1, 1])
    )
    people = PeopleTracker("door", "run", MODEL, SETTINGS)
    for number in range(50):
        scene = people.update(frame(number / 10, number), merge_classes(twice, np.full(3, 0.5, np.float32)))
    assert [(person.track, person.state) for person in scene.people] == [(1, "no_mask")]


def test_weak_and_small_faces_are_nobody() -> None:
    assert play().show(5, (HERE, (0.1, 0.4, 0.1)), (face(300, height=12), BARE)).summary() == []
    scenes = play().show(5, (HERE, BARE), (face(300, height=12), BARE))
    assert scenes.scene is not None
    assert [person.track for person in scenes.scene.people] == [1]
    assert scenes.scene.detections.tracker_id is not None
    assert scenes.scene.detections.tracker_id.tolist() == [1]
    assert scenes.scene.detections.data["class_name"].tolist() == ["no_mask"]


def test_finish_stops_and_more_frames_may_follow() -> None:
    scenes = play().show(5, (HERE, BARE)).finish()
    assert [row[1:] for row in scenes.summary()] == [
        ("alert", "no_mask", None),
        ("alert_end", "no_mask", "stopped"),
    ]
    assert scenes.events[-1][1].kind == "minute"
    scenes.skip(20).show(3, (HERE, BARE))
    assert [event.track for _, event in scenes.events if event.kind == "alert"] == [1, 2]
    assert scenes.finish().summary()[-1][1] == "alert_end"
    assert scenes.people.finish(frame(99.0)) == ()


def test_zones_of_a_person_and_zones_that_only_count() -> None:
    quiet = Zone("left", ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)), alert=False)
    scenes = play(zones=Zones((RIGHT, quiet))).show(5, (HERE, BARE), (THERE, BARE))
    assert [(event.track, event.zone) for _, event in scenes.events] == [(2, "right")]
    assert scenes.scene is not None
    assert [person.zones for person in scenes.scene.people] == [("left",), ("right",)]
    assert [person.alert for person in scenes.scene.people] == [False, True]


def test_the_dwell_of_a_zone_begins_in_it_and_ends_with_it() -> None:
    scenes = play(zones=Zones((RIGHT,), only_zones=True)).show(5, (face(290), BARE))
    assert scenes.summary() == []
    scenes.show(1.9, (face(310), BARE))
    assert scenes.summary() == []
    scenes.show(0.3, (face(310), BARE))
    assert [kind for _, kind, _, _ in scenes.summary()] == ["alert"]
    assert scenes.events[0][1].duration_s == pytest.approx(2.0, abs=0.11)
    scenes.show(0.2, (face(270), BARE))
    assert scenes.summary()[-1][1:] == ("alert_end", "no_mask", "left")


def test_a_line_is_an_event_with_the_state() -> None:
    line = Line("gate", ((0.5, 0.0), (0.5, 1.0)))  # downwards: its right is the left of the picture
    scenes = play(zones=Zones((), (line,)))
    for number in range(40):
        scenes.step((face(100 + 10 * number), MASK))
    ((_, event),) = scenes.events
    assert (event.kind, event.line, event.direction, event.state, event.track) == (
        "crossing",
        "gate",
        "out",
        "mask",
        1,
    )


def test_classes_that_alert() -> None:
    helmets = ModelMetadata("h", "1", ("helmet", "head"), (64, 64), "letterbox", (0.5, 0.5))
    with pytest.raises(OptionError, match="none of the classes no_mask and mask_incorrect, but helmet, head"):
        PeopleTracker("door", "run", helmets)
    with pytest.raises(
        OptionError, match="--alert hat: the model has no such class; use some of helmet, head"
    ):
        PeopleTracker("door", "run", helmets, PeopleSettings(alert_classes=("hat",)))
    assert PeopleTracker("door", "run", helmets, PeopleSettings(alert_classes=("head",)))
    assert PeopleSettings().alerting(("no_mask", "mask")) == ("no_mask",)
    assert play(PeopleSettings(alert_classes=())).show(9, (HERE, BARE)).summary() == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (lambda: PeopleSettings(AlertSettings(dwell_s=-1)), "dwell_s is -1"),
        (lambda: PeopleSettings(AlertSettings(cooldown_s=float("nan"))), "cooldown_s is nan"),
        (lambda: PeopleSettings(tracks=TrackSettings(lost_s=0)), "lost_s is 0; pass a number above 0"),
        (lambda: PeopleSettings(tracks=TrackSettings(min_iou=2)), "min_iou is 2; pass a number from 0 to 1"),
        (lambda: PeopleSettings(min_height="x"), "min_height is 'x'"),
    ],
)
def test_settings_out_of_range(settings: object, said: str) -> None:
    with pytest.raises(OptionError) as caught:
        settings()  # type: ignore[operator]
    assert said in str(caught.value)


def test_a_frame_of_another_size_and_equal_times() -> None:
    people = PeopleTracker("door", "run", MODEL, SETTINGS, Zones((RIGHT,)))
    small = LiveFrame("door", 0, 0.0, START, 0.0, EMPTY[:200, :300])
    for _ in range(3):
        scene = people.update(small, faces((face(160, 100), BARE)))
    assert scene.people[0].zones == ("right",), "zones are shares of the frame"
    assert people.update(frame(0.1), faces((face(160, 100), BARE))).people[0].zones == ()


def test_who_was_there_already_is_not_taken_for_one_who_left_close_by() -> None:
    """Two without masks side by side: one goes, and the other's alert is due in the seconds after."""
    close = face(180)
    scenes = play().show(3, (HERE, BARE), (close, MASK)).show(7, (close, BARE))
    assert [row[1:] for row in scenes.summary()] == [
        ("alert", "no_mask", None),
        ("alert_end", "no_mask", "left"),
        ("alert", "no_mask", None),
    ]
    assert scenes.events[-1][0] < 7.5


def test_a_face_between_two_alerting_classes_alerts_once() -> None:
    """It alternates between no_mask and mask_incorrect, and neither leads for long."""
    scenes = play()
    for number in range(100):
        scenes.step((HERE, (0.1, 0.6, 0.5) if number % 2 else (0.1, 0.5, 0.6)))
    assert scenes.summary() == [(pytest.approx(2.1, abs=0.11), "alert", "no_mask", None)]
    assert scenes.finish().events[-1][1].counts["all"]["by_state"]["no_mask"] == 1


def test_no_alert_for_a_state_that_is_over() -> None:
    """Bare for 1.9 s, then masked: the dwell is over before the vote is, and nothing must be told."""
    scenes = play().show(2.0, (HERE, BARE)).show(5, (HERE, MASK))
    assert scenes.summary() == []
    scenes.show(3, (HERE, BARE))
    assert [kind for _, kind, _, _ in scenes.summary()] == ["alert"], "no cooldown of an alert that was none"


def test_a_masked_person_who_was_bare_for_a_moment() -> None:
    scenes = play().show(4, (HERE, MASK)).show(1.5, (HERE, BARE)).show(4, (HERE, MASK))
    assert scenes.summary() == []


def test_what_is_found_now_and_then_is_no_person() -> None:
    """A flower: two frames of ten, each time with a good score."""
    scenes = play()
    for number in range(200):
        scenes.step(*([(HERE, BARE)] if number % 10 < 2 else []))
    scenes.show(3).finish()
    assert scenes.summary() == []
    counts = scenes.events[-1][1].counts
    assert counts is not None
    assert (counts["all"]["people"], counts["all"]["alerts"]) == (0, 0)


def test_a_painting_becomes_static() -> None:
    painting = (HERE, BARE)
    scenes = play(replace(SETTINGS, static_s=30.0)).show(40, painting)
    assert [row[1:] for row in scenes.summary()] == [
        ("alert", "no_mask", None),
        ("alert_end", "no_mask", "static"),
    ]
    assert scenes.scene is not None
    assert [(person.static, person.state) for person in scenes.scene.people] == [(True, None)]
    scenes.show(5, (THERE, MASK)).show(20, (THERE, MASK), painting)
    assert len(scenes.summary("alert")) == 1, "its place is known after somebody stood before it"
    people = sum(event.counts["all"]["people"] for _, event in scenes.finish().events if event.counts)
    assert people == 2, "the painting once, before it was known to be one"


def test_who_moves_is_not_static() -> None:
    scenes = play(replace(SETTINGS, static_s=30.0))
    for number in range(600):
        scenes.step((face(100 + 3 * np.sin(number / 30)), BARE))
    assert [kind for _, kind, _, _ in scenes.summary()] == ["alert"]
    scenes = play(replace(SETTINGS, static_s=0.0)).show(200, (HERE, BARE))
    assert [kind for _, kind, _, _ in scenes.summary()] == ["alert"], "0 switches it off"


def test_a_cut_starts_anew() -> None:
    """Somebody bare, and after a cut somebody masked at the same place: neither has anything of the other."""
    rng = np.random.default_rng(0)
    scenes = [np.repeat(np.repeat(rng.integers(0, 255, (9, 16, 3), np.uint8), 40, 0), 40, 1) for _ in "ab"]
    people = PeopleTracker("door", "run", MODEL, SETTINGS)
    events, tracks = [], []
    for number in range(120):
        image, scores = (scenes[0], BARE) if number < 60 else (scenes[1], MASK)
        one = LiveFrame("door", number, number / 10, START + timedelta(seconds=number / 10), 0.0, image)
        scene = people.update(one, faces((HERE, scores)))
        events += scene.events
        tracks += [person.track for person in scene.people]
    assert [(event.kind, event.reason) for event in events] == [("alert", None), ("alert_end", "left")]
    assert events[1].time == START + timedelta(seconds=6.0)
    assert sorted(set(tracks)) == [1, 2]
    (minute,) = [event for event in people.finish(one) if event.kind == "minute"]
    assert minute.counts is not None
    assert minute.counts["all"]["by_state"] == {"mask": 1, "no_mask": 1, "mask_incorrect": 0}
