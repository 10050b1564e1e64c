"""A random walk over the page: whatever is done, page and server agree in the end."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from page_driver import PageDriver
from server_process import ServerProcess

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
OpenPage = Callable[..., PageDriver]
_STEPS = 120


def _act(page: PageDriver, dice: random.Random) -> str:
    """Do something, and do not wait for what comes of it."""
    mouse, keyboard = page.page.mouse, page.page.keyboard
    # some of these places lie outside the frame
    place = page.at(dice.uniform(-20, 276), dice.uniform(-20, 276))
    kind = dice.choices(
        ["click", "exclude", "box", "middle", "wheel", "key", "hide", "remove", "rename", "panel"],
        [8, 3, 3, 1, 1, 14, 1, 1, 1, 3],
    )[0]
    if kind in ("click", "exclude"):
        mouse.click(*place, button="left" if kind == "click" else "right")
    elif kind in ("box", "middle"):
        mouse.move(*place)
        mouse.down(button="left" if kind == "box" else "middle")
        mouse.move(*page.at(dice.uniform(-20, 276), dice.uniform(-20, 276)), steps=3)
        mouse.up(button="left" if kind == "box" else "middle")
    elif kind == "wheel":
        mouse.move(*place)
        mouse.wheel(0, dice.choice([-200, 200]))
    elif kind == "key":
        keys = ["n", "n", "Control+z", "Control+z", "Control+y", "t", "Escape", "Delete", "x", "b"]
        keys += ["ArrowRight", "ArrowLeft", "Home", "End", " ", "1", "2", "3", "m", "0", "a"]
        key = dice.choice(keys)
        keyboard.press(key)
        return key
    elif kind == "panel":
        ids = ["undo", "redo", "new-object", "step-back", "step-next", "find-done", "track-cancel"]
        page.page.evaluate("(id) => document.getElementById(id).click()", dice.choice(ids))
    else:
        label = {"hide": "Show", "remove": "Remove", "rename": "Rename"}[kind]
        buttons = page.page.locator(f"#objects [title='{label}']")
        if count := buttons.count():
            buttons.nth(dice.randrange(count)).evaluate("(button) => button.click()")
            if kind == "rename":
                keyboard.type(dice.choice(["", "cat", "a b"]))
                keyboard.press("Enter")
    return kind


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_page_and_server_agree_after_a_random_walk(
    seed: int, open_page: OpenPage, served: ServerProcess
) -> None:
    page, dice = open_page(), random.Random(seed)
    page.open_sample("shapes")
    done = []
    for _ in range(_STEPS):
        done.append(_act(page, dice))
        page.page.wait_for_timeout(dice.choice([0, 0, 5, 60]))
    page.press("Escape", "Escape")
    page.wait_tracked()
    page.page.wait_for_selector("#find-bar", state="hidden")
    page.press("Escape")
    errors = page.page.locator(".notice.error span").all_text_contents()
    assert errors == [], done
    session = served.call("GET", f"v1/sessions/{page.session()}")
    known = [item["name"] or f"Object {item['object']}" for item in session["objects"]]
    assert page.objects() == known, done
    clicks: dict[int, int] = {}
    for prompt in session["prompts"]:
        clicks[prompt["object"]] = clicks.get(prompt["object"], 0) + len(prompt["labels"])
    counts = [int(text.split(" click")[0]) if " click" in text else 0 for text in page.texts()]
    assert counts == [clicks[item["object"]] for item in session["objects"]], done
