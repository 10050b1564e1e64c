"""Everything else that is done on the page, in a browser."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from page_driver import PageDriver
from PIL import Image
from server_process import ServerProcess
from square_clip import CLICK

from sam2rt.benchmarks.synthetic.clips import make_clip
from sam2rt.runtime.pixels.rle import mask_from_rle

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
OpenPage = Callable[..., PageDriver]
#: a place in each of the two shapes of the sample's first frame
FIRST, SECOND = (67.5, 85.5), (60.5, 205.5)
WIDE, PHONE = (1280, 720), (375, 812)


def test_undo_and_redo_send_what_was_there(open_page: OpenPage) -> None:
    page = open_page()
    page.open_sample("shapes")
    page.click(*FIRST)
    page.click(20, 20, shift=True)
    one, two = page.prompts()
    assert two["labels"] == [1, 0]
    page.press("Control+z")
    assert page.prompts()[2] == one
    assert page.texts() == ["1 click"]
    page.press("Control+z")
    assert page.sent[-1][:2] == ("DELETE", f"/v1/sessions/{page.session()}/objects/1/prompts/0")
    assert page.objects() == []
    assert page.page.locator("#undo").is_disabled()
    page.press("Control+Shift+z", "Control+y")
    assert page.prompts()[3:] == [one, two]
    assert page.texts() == ["2 clicks"]
    assert page.page.locator("#redo").is_disabled()


def test_a_removed_object_comes_back_with_its_clicks_and_its_name(open_page: OpenPage) -> None:
    page = open_page()
    page.open_sample("shapes")
    page.click(*FIRST)
    page.press("F2", "c", "a", "t", "Enter")
    page.seek(3)
    page.click(*FIRST)
    page.press("Delete")
    assert page.objects() == []
    page.press("Control+z")
    assert page.objects() == ["cat"]
    assert page.texts() == ["2 clicks · 2 frames"]
    first, later = page.prompts()[:2]
    assert page.prompts()[2:] == [first, later]
    named = ("PUT", f"/v1/sessions/{page.session()}/objects/1", {"name": "cat"})
    assert named in page.sent[-3:]


def test_masks_are_drawn_where_they_are(open_page: OpenPage, served: ServerProcess) -> None:
    page = open_page()
    page.open_sample("shapes")
    before = page.pixel(*SECOND), page.pixel(200, 40)
    page.click(SECOND[0] - 12, SECOND[1])
    inside, outside = page.pixel(*SECOND), page.pixel(200, 40)
    assert outside == before[1]
    # the object's colour covers two fifths
    colour = np.array((203, 242, 36))
    np.testing.assert_allclose(inside, 0.6 * np.array(before[0]) + 0.4 * colour, atol=3)
    page.press("m")
    assert page.pixel(*SECOND) == before[0]


def test_a_cancelled_run_keeps_its_frames(
    open_page: OpenPage, served: ServerProcess, long_clip: Path
) -> None:
    page = open_page()
    page.open_file(long_clip, (128, 96))
    page.click(*CLICK["points"][0])
    page.page.click("#track")
    page.page.wait_for_selector("#track-text:has-text('left')")
    page.screenshot("tracking")
    page.press("Escape")
    page.wait_tracked()
    assert page.notices() == ["Cancelled. The frames so far are kept."]
    tracked = served.call("GET", f"v1/sessions/{page.session()}")["tracked"]
    assert tracked[0][0] == 0
    assert 1 <= tracked[0][1] < 119
    page.track()
    tracked = served.call("GET", f"v1/sessions/{page.session()}")["tracked"]
    assert tracked == [[0, 119]]


def test_tracking_backwards_and_from_a_frame(open_page: OpenPage, served: ServerProcess) -> None:
    page = open_page()
    page.open_sample("shapes")
    page.seek(10)
    page.click(SECOND[0] - 12, SECOND[1])
    page.page.click("[data-direction='backward']")
    page.track()
    session = f"v1/sessions/{page.session()}"
    assert page.frame_number() == "1 / 24"
    assert served.call("GET", session)["tracked"] == [[0, 10]]
    page.page.click("[data-direction='forward']")
    page.page.select_option("#from", "frame")
    page.seek(5)
    page.track()
    asked = [body for method, path, body in page.sent if path.endswith("/propagate")]
    assert asked == [
        {"direction": "backward", "start": None},
        {"direction": "forward", "start": 5},
    ]
    assert served.call("GET", session)["tracked"] == [[0, 23]]


def test_a_correction_lasts_when_the_clip_is_tracked_again(
    open_page: OpenPage, served: ServerProcess
) -> None:
    page = open_page()
    page.open_sample("shapes")
    page.click(*FIRST)
    page.track()
    masks = f"v1/sessions/{page.session()}/masks/12"
    tracked = served.call("GET", masks)
    page.seek(12)
    page.drag(20, 20, 90, 90)
    corrected = served.call("GET", masks)
    assert corrected != tracked
    page.track()
    assert served.call("GET", masks) == corrected


def test_a_reload_goes_on(open_page: OpenPage) -> None:
    page = open_page()
    page.open_sample("shapes")
    page.click(*FIRST)
    page.press("F2", "c", "a", "t", "Enter")
    page.track()
    page.page.reload()
    page.page.wait_for_selector(".object")
    page.settle()
    assert page.objects() == ["cat"]
    assert page.page.locator("#name").text_content() == "Shapes that move"
    assert page.page.locator("#track").text_content() == "Track again"
    page.click(20, 20, shift=True)
    first, both = page.prompts()
    assert both["points"] == [first["points"][0], both["points"][1]]
    assert both["labels"] == [1, 0]


def test_a_session_that_is_gone_is_opened_again_with_its_clicks(
    open_page: OpenPage, served: ServerProcess
) -> None:
    page = open_page()
    page.expected = ["404"]
    page.open_sample("shapes")
    page.click(*FIRST)
    page.press("F2", "c", "a", "t", "Enter")
    before = page.session()
    served.call("DELETE", f"v1/sessions/{before}")
    page.click(20, 20, shift=True)
    page.page.wait_for_selector("#expired[open]")
    page.screenshot("expired")
    page.page.click("#reopen")
    page.page.wait_for_selector("#expired", state="hidden")
    page.page.wait_for_selector(".notice")
    page.settle()
    assert page.notices() == ["Opened again, with your clicks."]
    assert page.session() != before
    assert page.objects() == ["cat"]
    session = served.call("GET", f"v1/sessions/{page.session()}")
    assert session["objects"] == [{"object": 1, "name": "cat"}]
    assert session["prompts"][0]["labels"] == [1, 0]


def test_a_file_that_is_none_is_refused_in_one_line(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    page.expected = ["415"]
    (tmp_path / "notes.txt").write_text("no clip at all\n" * 20)
    page.page.set_input_files("#file", str(tmp_path / "notes.txt"))
    page.page.wait_for_selector(".notice.error")
    page.screenshot("refused")
    (line,) = page.notices()
    assert "notes.txt" in line or "video" in line
    assert "\n" not in line
    assert page.page.locator("#upload").is_hidden()
    page.page.click("[aria-label='Dismiss']")
    assert page.notices() == []


def test_a_dropped_picture_is_opened(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    picture = np.zeros((90, 160, 3), np.uint8)
    picture[20:60, 40:100] = (200, 80, 30)
    Image.fromarray(picture).save(tmp_path / "dropped.png")
    content = list((tmp_path / "dropped.png").read_bytes())
    code = """(content) => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([Uint8Array.from(content)], "dropped.png"));
      for (const type of ["dragover", "drop"]) {
        document.body.dispatchEvent(
          new DragEvent(type, { dataTransfer: transfer, bubbles: true, cancelable: true }));
      }
    }"""
    page.page.evaluate(code, content)
    page.size = (160, 90)
    page.wait_open()
    assert page.page.locator("#facts").text_content() == "160 \u00d7 90"
    assert page.page.locator("#timeline").is_hidden()
    np.testing.assert_allclose(page.pixel(70, 40), (200, 80, 30), atol=6)


def test_automatic_masks_become_objects(
    open_page: OpenPage, served: ServerProcess, tmp_path: Path
) -> None:
    clip = make_clip(8, "plain", 1)
    Image.fromarray(np.ascontiguousarray(clip.frames[0])).save(tmp_path / "shapes.png")
    middles = [np.argwhere(clip.labels[0] == label).mean(0)[::-1] + 0.5 for label in (2, 3)]
    page = open_page()
    page.open_file(tmp_path / "shapes.png", (256, 256))
    plain = page.pixel(*middles[0])
    page.find()
    count = int(str(page.page.locator("#find-text").text_content()).split()[0])
    assert count >= 4
    page.page.mouse.move(*page.at(*middles[0]))
    page.settle()
    page.screenshot("automatic")
    # what the pointer is over is lit
    assert sum(page.pixel(*middles[0])) > sum(plain) + 60
    page.click(*middles[0])
    assert page.objects() == ["Object 1"]
    assert page.texts() == ["1 mask"]
    assert page.page.locator("#find-text").text_content() == f"{count - 1} found"
    (prompt,) = page.prompts()
    shown = served.call("GET", f"v1/sessions/{page.session()}/masks/0")["objects"]
    assert [entry["mask"] for entry in shown] == [prompt["mask"]]
    inside = mask_from_rle(prompt["mask"])
    truth = clip.labels[0] == 2
    assert (inside & truth).sum() / (inside | truth).sum() > 0.8
    page.click(*middles[1])
    page.press("Escape")
    assert page.objects() == ["Object 1", "Object 2"]
    page.press("Control+z")
    assert page.objects() == ["Object 1"]
    coco = json.loads(page.download("masks.json", tmp_path).read_text())
    assert [entry["segmentation"] for entry in coco["annotations"]] == [prompt["mask"]]
    overlay = page.download("overlay", tmp_path)
    with Image.open(overlay) as drawn:
        assert drawn.size == (256, 256)
    # a prompt that is a mask outlasts a reload, and its removal
    page.page.reload()
    page.page.wait_for_selector(".object")
    page.settle()
    assert page.texts() == ["1 mask"]
    page.press("Delete")
    assert page.objects() == []
    page.press("Control+z")
    assert page.texts() == ["1 mask"]
    assert page.prompts()[-1] == prompt


def test_everything_works_without_a_mouse(open_page: OpenPage) -> None:
    page = open_page()
    page.open_sample("shapes")
    page.page.focus("#canvas")
    page.press("Tab", "Shift+Tab")  # the focus of a keyboard, which shows the cross
    steps = 12
    page.press(*["ArrowLeft"] * steps, *["ArrowUp"] * 3, "Enter")
    (prompt,) = page.prompts()
    scale = float(str(page.page.locator("#zoom-value").text_content()).rstrip("%")) / 100
    expected = [[128 - 8 * steps / scale, 128 - 8 * 3 / scale]]
    np.testing.assert_allclose(prompt["points"], expected, rtol=0.01)
    page.press("Shift+ArrowRight", "Shift+Enter")
    assert page.prompts()[1]["labels"] == [1, 0]
    page.page.focus("#play")
    page.press("ArrowRight")
    assert page.frame_number() == "2 / 24"
    page.press("Shift+ArrowRight")
    assert page.frame_number() == "12 / 24"
    page.press("End", "Home", "n")
    assert page.frame_number() == "1 / 24"
    assert page.objects() == ["Object 1", "Object 2"]
    page.press("Escape")
    assert page.objects() == ["Object 1"]
    page.press("?")
    page.screenshot("help")
    assert page.page.locator("#help").is_visible()
    page.press("t")  # nothing happens behind the help
    page.press("Escape")
    assert page.page.locator("#help").is_hidden()
    assert page.page.locator("#track-start").is_visible()
    page.press("t")
    page.wait_tracked()
    assert page.frame_number() == "24 / 24"
    page.press("Delete")
    assert page.objects() == []


def test_a_name_is_typed_without_side_effects(open_page: OpenPage) -> None:
    page = open_page()
    page.open_sample("shapes")
    page.click(*FIRST)
    page.press("F2")
    page.page.keyboard.type("A tan? <b>bat</b> 1")
    page.press("Enter")
    assert page.objects() == ["A tan? <b>bat</b> 1"]
    page.press("F2")
    page.page.keyboard.type("nothing")
    page.press("Escape")
    assert page.objects() == ["A tan? <b>bat</b> 1"]


def test_playing_runs_to_the_end(open_page: OpenPage) -> None:
    page = open_page()
    page.open_sample("shapes")
    page.press(" ")
    page.page.wait_for_selector("#play[aria-label='Play']")
    page.settle()
    assert page.frame_number() == "24 / 24"


def test_large_pictures_are_zoomed_and_moved(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page()
    rng = np.random.default_rng(1)
    blocks = rng.integers(0, 255, (20, 32, 3), np.uint8)
    picture = np.repeat(np.repeat(blocks, 100, 0), 100, 1)
    Image.fromarray(picture).save(tmp_path / "large.png")
    page.open_file(tmp_path / "large.png", (3200, 2000))
    # fitted, a narrower picture is enough
    asked = [request for request in page.fetched if "/frames/0" in request]
    assert asked == [f"/v1/sessions/{page.session()}/frames/0?width=1280"]
    place = page.at(1650, 1050)
    page.page.mouse.move(*place)
    for _ in range(30):
        page.page.mouse.wheel(0, -120)
    page.settle()
    assert page.page.locator("#zoom-value").text_content() == "4000%"
    assert page.fetched[-1] == f"/v1/sessions/{page.session()}/frames/0"
    page.page.mouse.click(*place)
    page.settle()
    # what was under the pointer stayed there: a pixel of the window is three of the picture
    np.testing.assert_allclose(page.prompts()[0]["points"], [[1650, 1050]], atol=4)
    page.press("0")
    np.testing.assert_allclose(page.pixel(2950, 150), blocks[1, 29], atol=8)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_a_phone_has_all_of_it(dark: bool, open_page: OpenPage) -> None:
    name = f"phone {'dark' if dark else 'light'}"
    page = open_page(PHONE, dark=dark, touch=True)
    _assert_fits(page)
    page.screenshot(f"{name} start")
    page.open_sample("shapes")
    page.click(*FIRST)
    page.page.tap("[data-tool='minus']")
    page.click(20, 20)
    assert page.prompts()[1]["labels"] == [1, 0]
    page.page.tap("#new-object")
    page.page.tap("[data-tool='plus']")
    page.click(*SECOND)
    assert page.texts() == ["2 clicks", "1 click"]
    page.screenshot(f"{name} prompted")
    page.page.tap("#track")
    page.wait_tracked()
    page.screenshot(f"{name} tracked")
    _assert_fits(page)
    small = """() => [...document.querySelectorAll("button, select")]
      .filter((element) => element.offsetParent)
      .map((element) => [element.id || element.textContent, element.getBoundingClientRect()])
      .filter(([, { width, height }]) => Math.min(width, height) < 34)
      .map(([name]) => name)"""
    assert page.page.evaluate(small) == []


def test_fingers_draw_boxes_zoom_and_move(open_page: OpenPage) -> None:
    page = open_page(PHONE, touch=True)
    page.open_sample("shapes")
    fingers = page.page.context.new_cdp_session(page.page)

    def touch(kind: str, *places: tuple[float, float]) -> None:
        points = [{"x": x, "y": y, "id": index} for index, (x, y) in enumerate(places)]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    def choose(tool: str) -> None:
        """As a person does: a tap that is lost, which a busy machine did once, is made again."""
        chosen = page.page.locator(f"[data-tool='{tool}'][aria-checked='true']")
        for attempt in range(40):
            if attempt % 8 == 0:
                page.page.tap(f"[data-tool='{tool}']")
            if chosen.count():
                return
            page.page.wait_for_timeout(250)
        raise AssertionError(f"the tool {tool} cannot be chosen")

    choose("box")
    corners = (14.0, 150.0), (116.0, 236.0)
    touch("touchStart", page.at(*corners[0]))
    touch("touchMove", page.at(60, 200))
    touch("touchMove", page.at(*corners[1]))
    touch("touchEnd")
    page.settle()
    (prompt,) = page.prompts()
    np.testing.assert_allclose(prompt["box"], [*corners[0], *corners[1]], atol=1)

    choose("plus")
    middle = page.at(128, 128)
    fitted = float(str(page.page.locator("#zoom-value").text_content()).rstrip("%"))
    left, right = (middle[0] - 40, middle[1]), (middle[0] + 40, middle[1])
    touch("touchStart", left, right)
    touch("touchMove", (left[0] - 40, left[1]), (right[0] + 40, right[1]))
    touch("touchEnd")
    zoomed = float(str(page.page.locator("#zoom-value").text_content()).rstrip("%"))
    assert zoomed / fitted == pytest.approx(2, rel=0.02)
    # one finger moves the picture and clicks nothing
    touch("touchStart", middle)
    touch("touchMove", (middle[0] + 50, middle[1] + 30))
    touch("touchEnd")
    page.settle()
    assert len(page.prompts()) == 1
    # what lies under the middle now was 50 pixels of the window to the left
    page.page.touchscreen.tap(*middle)
    page.settle()
    scale = zoomed / 100
    expected = [[128 - 50 / scale, 128 - 30 / scale]]
    np.testing.assert_allclose(page.prompts()[1]["points"], expected, atol=1.5)


def test_a_clip_that_is_closed_while_it_is_tracked_says_nothing_more(
    open_page: OpenPage, long_clip: Path
) -> None:
    page = open_page()
    page.open_file(long_clip, (128, 96))
    page.click(*CLICK["points"][0])
    page.page.click("#track")
    page.page.wait_for_selector("#track-text:has-text('left')")
    page.page.click("#open-other")
    page.page.wait_for_timeout(1500)
    assert page.notices() == []
    assert page.page.locator("#expired").is_hidden()
    page.page.click(".sample[data-sample='still']")
    page.wait_open()
    assert page.page.locator("#name").text_content() == "A still of shapes"


def test_an_address_may_name_what_is_opened(open_page: OpenPage, served: ServerProcess) -> None:
    page = open_page()
    page.page.goto(f"{served.address}?sample=still")
    page.wait_open()
    assert page.page.locator("#facts").text_content() == "256 \u00d7 256"
    page.expected = ["404"]
    page.page.goto(f"{served.address}?sample=none")
    page.page.wait_for_selector(".notice.error")
    (line,) = page.notices()
    assert "none" in line


def _assert_fits(page: PageDriver) -> None:
    """Nothing is wider than the window."""
    code = "() => [document.documentElement.scrollWidth, innerWidth]"
    width, window = page.page.evaluate(code)
    assert width <= window


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_stands_out(dark: bool, open_page: OpenPage) -> None:
    """Contrast of 4.5 to 1 at least (WCAG AA), of what is enabled."""
    page = open_page(dark=dark)
    page.open_sample("shapes")
    page.click(*FIRST)
    page.track()
    page.screenshot(f"wide {'dark' if dark else 'light'}")
    found = page.page.evaluate(_CONTRAST)
    assert len(found) > 15
    assert {text: round(ratio, 2) for text, ratio in found if ratio < 4.5} == {}


_CONTRAST = """() => {
  const parse = (text) => {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    canvas.fillStyle = text;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return { rgb: [r, g, b], alpha: a / 255 };
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((part) => {
      part /= 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (; element; element = element.parentElement) {
      const { rgb, alpha } = parse(getComputedStyle(element).backgroundColor);
      if (alpha > 0.99) return rgb;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.data.trim(), element = walker.currentNode.parentElement;
    const skipped = element.closest("button:disabled, option, .stage, noscript, script");
    if (!text || !element.offsetParent || skipped) continue;
    const ink = parse(getComputedStyle(element).color).rgb;
    const [one, other] = [light(ink), light(ground(element))];
    found.push([text, (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05)]);
  }
  return found;
}"""


def test_the_camera_is_tracked_live(open_page: OpenPage) -> None:
    page = open_page()
    page.page.click("#camera")
    page.page.wait_for_selector("#live-facts:not([hidden])")
    page.page.wait_for_timeout(500)
    assert page.page.locator("#timeline").is_hidden()
    box = page.page.locator("#canvas").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.page.mouse.click(*middle)
    page.page.wait_for_selector("#live-facts:has-text('frames/s')")
    page.page.wait_for_timeout(2000)
    page.screenshot("camera")
    assert page.objects() == ["Object 1"]
    rate = float(str(page.page.locator("#live-facts").text_content()).split()[0])
    assert rate > 0.2
    page.press("n")
    page.page.mouse.click(middle[0] + 100, middle[1])
    page.settle()
    assert page.objects() == ["Object 1", "Object 2"]
    page.page.click("[aria-label='Remove Object 1']")
    assert page.objects() == ["Object 2"]
    page.page.click("#live-stop")
    page.page.wait_for_selector("#opener:not([hidden])")
    assert page.notices() == []
    page.open_sample("shapes")
    page.click(*FIRST)
    assert page.objects() == ["Object 1"]
