"""Playback Sync Testing: one video in several browsers, on the same frame when paused and within a few frames when
playing."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.waiting import PATIENCE_S

from .cable import Cable
from .conftest import Enter
from .pages import (
    FRAME_S,
    Wire,
    expect_playing,
    expect_together,
    face,
    film_time,
    play,
    seek,
    viewer,
    wait_for_time,
)

pytestmark = [pytest.mark.browser, pytest.mark.pages]

STALL_S = 2.4  # more than the 2 s above which a seek corrects [H8]


def test_play_pause_and_seek_are_shared_to_the_frame(enter: Enter) -> None:
    jane = enter("jane", "Jane")
    tom = enter("tom", "Tom")
    expect(jane.get_by_role("button", name="Play for everybody")).to_be_visible()
    jane.get_by_role("button", name="Play for everybody").click()
    for page in (jane, tom):
        expect_playing(page, True)
    expect_together(jane, tom)

    play(jane)
    expect_playing(tom, False)
    jane.wait_for_function("() => document.getElementById('video').paused")
    stood = film_time(jane)
    wait_for_time(tom, stood - FRAME_S, stood + FRAME_S)

    seek(tom, 21.5)
    wait_for_time(jane, 21.5 - FRAME_S, 21.5 + FRAME_S)
    tom.keyboard.press("Escape")
    tom.locator("#video").focus()
    play(tom)
    expect_playing(jane, True)
    expect_together(jane, tom)
    jane.locator("#rate").select_option("2")
    tom.wait_for_function("() => Math.abs(document.getElementById('video').playbackRate - 2) < 0.21")
    expect_together(jane, tom)


def test_a_late_joiner_lands_on_the_frame_the_others_see(enter: Enter) -> None:
    """H5, paused and playing."""
    jane = enter("jane", "Jane")
    seek(jane, 13.25)
    tom = enter("tom", "Tom")
    wait_for_time(tom, 13.25 - FRAME_S, 13.25 + FRAME_S)
    expect(tom.locator("#time")).to_have_text("00:13:06")
    play(jane)
    expect_playing(jane, True)
    mia = enter("mia", "Mia")
    expect_playing(mia, True)
    expect_together(jane, mia)
    assert film_time(mia) > 13.2


def test_control_is_taken_asked_for_denied_granted_and_released(enter: Enter) -> None:
    jane = enter("jane", "Jane")
    tom = enter("tom", "Tom")
    expect(jane.locator("#watch .controller")).to_have_text("Nobody")
    expect(jane.locator("#watch .rule")).to_have_text("Everyone can play")
    jane.get_by_role("button", name="Take control").click()
    expect(tom.locator("#watch .controller")).to_have_text("Jane")
    tom.get_by_role("button", name="Request control").click()
    expect(tom.get_by_role("button", name="Cancel request")).to_be_visible()
    expect(jane.locator("#watch .request")).to_contain_text("Tom asks for control")
    jane.get_by_role("button", name="Deny").click()
    expect(jane.locator("#watch .request")).to_have_count(0)
    tom.get_by_role("button", name="Request control").click()
    jane.get_by_role("button", name="Grant").click()
    expect(tom.locator("#watch .controller")).to_have_text("You")
    expect(jane.locator("#watch .controller")).to_have_text("Tom")
    expect(jane.locator("#rate")).to_be_disabled()
    play(tom)
    expect_playing(jane, True)
    expect(viewer(jane, "Tom")).to_contain_text("controlling")
    tom.get_by_role("button", name="Release control").click()
    expect(jane.get_by_role("button", name="Take control")).to_be_visible()
    play(jane)
    expect_playing(tom, False)


def test_a_user_who_pauses_locally_is_shown_as_paused_and_returns_with_resync(enter: Enter) -> None:
    """Desync handling [H7, H15]: "Viewers synced: 1/2", "paused"."""
    jane = enter("jane", "Jane")
    tom = enter("tom", "Tom")
    jane.get_by_role("button", name="Take control").click()
    expect(tom.locator("#watch .controller")).to_have_text("Jane")
    play(jane)
    expect_playing(tom, True)
    expect(jane.locator("#watch .count")).to_have_text("Viewers synced: 2/2")
    play(tom)
    expect(tom.locator("#alone")).to_contain_text("Watching on your own")
    expect(jane.locator("#watch .count")).to_have_text(re.compile("synced: 1/[12]"))
    expect(viewer(jane, "Tom")).to_contain_text("paused")
    expect_playing(jane, True)
    tom.get_by_role("button", name="Resync").click()
    expect(tom.locator("#alone")).to_be_hidden()
    expect_together(jane, tom)
    expect(jane.locator("#watch .count")).to_have_text("Viewers synced: 2/2")


def test_a_stalled_film_is_shown_as_buffering_and_is_back_in_step(enter: Enter, cable: Cable) -> None:
    """H8. The bytes of the video are held back, as on a bad network."""
    jane = enter("jane", "Jane")
    cable.hold_film(after_bytes=60_000)
    tom = enter("tom", "Tom", base=cable.url)
    assert cable.held.wait(PATIENCE_S)
    play(jane)
    expect_playing(jane, True)
    expect(viewer(jane, "Tom")).to_contain_text("buffering")
    stalled_at = film_time(tom)
    jane.wait_for_function(
        "(stalled) => document.getElementById('video').currentTime > stalled", arg=stalled_at + STALL_S
    )
    assert film_time(tom) - stalled_at < 0.1
    cable.release()
    expect_together(jane, tom)
    expect(viewer(jane, "Tom")).to_contain_text("synced")


def test_a_follower_is_not_followed_back_and_the_page_reports_it(enter: Enter) -> None:
    """N14: circles are refused, and the page says so instead of announcing that it follows."""
    tom = enter("tom", "Tom")
    mia = enter("mia", "Mia")
    face(mia, "Tom").click()
    mia.locator("#avatars .person", has_text="Tom").click()
    expect(mia.locator("#notice")).to_have_text("You follow Tom. Touch the player to stop.")
    mia.locator("#words").fill("Behind you")
    mia.keyboard.press("Enter")
    expect(tom.locator("#feed")).to_contain_text("Behind you")  # so Tom's page has received the follow message, too
    face(tom, "Mia").click()
    tom.locator("#avatars .person", has_text="Mia").click()
    expect(tom.locator("#notice")).to_have_text("Mia follows you already.")


def test_a_user_is_followed_until_the_player_is_touched(enter: Enter) -> None:
    """N14: Mia follows Tom, who plays on his own."""
    jane = enter("jane", "Jane")
    tom = enter("tom", "Tom")
    mia = enter("mia", "Mia")
    jane.get_by_role("button", name="Take control").click()
    expect(mia.locator("#watch .controller")).to_have_text("Jane")
    face(mia, "Tom").click()
    mia.locator("#avatars .person", has_text="Tom").click()
    expect(mia.locator("#alone")).to_contain_text("Following Tom")
    seek(tom, 18)
    wait_for_time(mia, 17.8, 18.2)
    wait_for_time(jane, -0.1, 0.1)
    seek(mia, 5)
    expect(mia.locator("#alone")).to_contain_text("Watching on your own")
    wait_for_time(mia, 4.9, 5.1)
    mia.get_by_role("button", name="Back to the others").click()
    expect(mia.locator("#alone")).to_be_hidden()


def test_a_computer_with_a_wrong_clock_plays_in_time_with_the_others(enter: Enter) -> None:
    """The offset to the server's clock comes from `clientTime` and its `echo` [D7, H4]."""
    wires: list[Wire] = []

    def prepare(page: Page) -> None:
        wires.append(Wire(page))
        page.add_init_script(
            "Object.defineProperty(performance, 'timeOrigin', {value: performance.timeOrigin + 3_600_000})"
        )

    tom = enter("tom", "Tom")
    jane = enter("jane", "Jane", prepare=prepare)
    seek(jane, 10)
    wait_for_time(tom, 9.9, 10.1)
    command = [message for message in wires[0].of_type("playback") if message["data"]["action"] == "seek"][-1]
    assert abs(command["data"]["at"] - command["seenAtMs"]) < 60_000, "an hour less wrong than its own"
    play(jane)
    expect_playing(tom, True)
    expect_together(jane, tom)
