"""P6 in a real browser: a machine without a network, a telephone, and the publisher's page."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, ViewportSize

import inprocess
from authority_process import Home, Serving
from client.machine import PARTS
from volact.web import pictures
from web.visitor import drawn, photograph

pytestmark = pytest.mark.sockets

NARROW, WIDE = ViewportSize(width=360, height=740), ViewportSize(width=1280, height=800)


class Machine:
    """A machine with the product and a key, and nothing but its own commands: it reaches nobody."""

    def __init__(self, folder: Path, home: Home, key: str) -> None:
        self.folder = folder
        facts = folder / "facts.json"
        facts.write_text(json.dumps({**PARTS, "uuid": folder.name.encode().hex().ljust(32, "0")[:32]}))
        self.environ = {
            **{name: value for name, value in home.environ.items() if not name.startswith("VOLACT_")},
            "VOLACT_HOME": str(folder / "home"),
            "VOLACT_MACHINE_FACTS": str(facts),
        }
        self.run("volact", "client", "install", str(home.folder / "cad.volact-product"), "--root", home.pub)
        self.slmgr("/ipk", "-", stdin=key)

    def run(self, program: str, *words: str, stdin: str = "") -> Any:
        done = inprocess.run(program, *words, "--json", environ=self.environ, stdin=stdin)
        assert done.code == 0, done
        return json.loads(done.out)

    def slmgr(self, *words: str, stdin: str = "") -> Any:
        return self.run("slmgr", *words, stdin=stdin)


@pytest.fixture
def machine(tmp_path: Path, home: Home) -> Machine:
    return Machine(tmp_path, home, home.key().text())


def open_page(
    browser: Browser,
    serving: Serving,
    size: ViewportSize = NARROW,
    *,
    javascript: bool = False,
    dark: bool = False,
) -> Page:
    context = browser.new_context(
        ignore_https_errors=True,
        viewport=size,
        java_script_enabled=javascript,
        color_scheme="dark" if dark else "light",
        device_scale_factor=2,
    )
    page = context.new_page()
    page.goto(f"{serving.url}/phone")
    return page


def shown_groups(page: Page) -> str:
    return " ".join(page.locator(".groups li").all_inner_texts()).replace("\n", "")


def test_qr_codes_go_there_and_back(
    browser: Browser, serving: Serving, machine: Machine, home: Home, shots: Path
) -> None:
    """P6, without JavaScript: photographed from the machine, compared, scanned from the telephone: Licensed."""
    asked = machine.slmgr("/dti")
    for at in range(0, len(asked["qr"]), 2):
        (shots / f"{at}.jpg").write_bytes(photograph(*map(drawn, asked["qr"][at : at + 2])))
    page = open_page(browser, serving)
    page.get_by_label("Photographs of the QR codes").set_input_files(sorted(shots.iterdir()))
    page.get_by_role("button", name="Continue").click()
    assert shown_groups(page) == asked["iid"]
    page.get_by_role("button", name="All nine are the same").click()
    assert page.get_by_role("heading", level=1).inner_text() == "The machine is activated."
    figures = page.locator("figure div[role=img]").all()
    scanned = [text for figure in figures for text in pictures.codes(figure.screenshot())]
    assert len(scanned) == len(figures) > 1
    assert machine.slmgr("/atp", "-", stdin="\n".join(reversed(scanned)))["state_name"] == "Licensed"
    assert machine.slmgr("/dli")["iid"] is None, "no request is pending any more"
    assert len(home.run("activation", "list")) >= 1


def test_files_go_there_and_back(browser: Browser, serving: Serving, machine: Machine) -> None:
    request, answer = machine.folder / "request", machine.folder / "answer"
    asked = machine.slmgr("/dti", str(request))
    page = open_page(browser, serving, WIDE)
    page.get_by_label("The request's file").set_input_files(request)
    page.get_by_role("button", name="Continue").click()
    assert shown_groups(page) == asked["iid"]
    page.get_by_role("button", name="All nine are the same").click()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save confirmation-").click()
    assert saved.value.suggested_filename == f"confirmation-{asked['iid'][:6]}.json"
    saved.value.save_as(answer)
    assert machine.slmgr("/atp", str(answer))["state_name"] == "Licensed"


def test_text_goes_there_and_back(browser: Browser, serving: Serving, machine: Machine) -> None:
    """What a scanner reads in the QR codes, one a line; and the answer is pasted."""
    page = open_page(browser, serving)
    codes = machine.slmgr("/dti")["qr"]
    page.get_by_label("Text").fill("\n".join(codes[1:]))
    page.get_by_role("button", name="Continue").click()
    assert "Missing of" in page.get_by_role("alert").inner_text()
    kept = page.get_by_label("Text").input_value()
    page.get_by_label("Text").fill(kept + "\n" + codes[0])
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("button", name="All nine are the same").click()
    answer = page.get_by_label("As text").input_value()
    assert machine.slmgr("/atp", answer)["state_name"] == "Licensed"


# --- how it looks -------------------------------------------------------------------------------------------------

# Every element with text of its own: the WCAG contrast of its colour to what is behind it.
CONTRASTS = """() => {
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const light = text => {
    const [r, g, b] = parse(text).slice(0, 3).map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = one => {
    for (; one; one = one.parentElement) {
      const found = getComputedStyle(one).backgroundColor;
      if ((parse(found)[3] ?? 1) > 0) return found;
    }
    return "rgb(255, 255, 255)";
  };
  const own = one => [...one.childNodes].some(node => node.nodeType === 3 && node.data.trim());
  return [...document.querySelectorAll("body *")].filter(own).map(one => {
    const [a, b] = [light(getComputedStyle(one).color), light(behind(one))].sort((x, y) => y - x);
    return [one.tagName + ": " + one.textContent.trim().slice(0, 30), (a + 0.05) / (b + 0.05)];
  });
}"""
TOO_SMALL = """() => [...document.querySelectorAll("button, a, input[type=file], summary")]
  .filter(one => one.getBoundingClientRect().height < 24).map(one => one.outerHTML)"""


def check_looks(page: Page) -> None:
    """WCAG 2.2 AA as far as it can be measured: contrast, size of targets, no scrolling sideways."""
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= (page.viewport_size or NARROW)["width"], "nothing is wider than the screen"
    found = page.evaluate(CONTRASTS)
    assert len(found) > 4
    assert [one for one in found if one[1] < 4.5] == []
    assert page.evaluate(TOO_SMALL) == []
    unnamed = "[...document.querySelectorAll('input:not([type=hidden]), textarea')].filter(one => !one.labels.length && !one.getAttribute('aria-labelledby')).length"
    assert page.evaluate(unnamed) == 0
    assert page.title()


@pytest.mark.parametrize(
    ("size", "dark"), [(NARROW, False), (NARROW, True), (WIDE, False), (WIDE, True)], ids=str
)
def test_every_page_can_be_read(
    browser: Browser, serving: Serving, machine: Machine, size: ViewportSize, dark: bool
) -> None:
    page = open_page(browser, serving, size, javascript=True, dark=dark)
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    check_looks(page)
    page.get_by_label("Text").fill("W" * 300)
    page.get_by_role("button", name="Continue").click()
    assert page.get_by_role("alert").is_visible()
    check_looks(page)
    page.get_by_label("Text").fill(json.dumps(machine.slmgr("/dti")["request"]))
    page.get_by_role("button", name="Continue").click()
    check_looks(page)
    page.get_by_role("button", name="All nine are the same").click()
    page.get_by_text("What they say").click()
    check_looks(page)
    assert [one for one in problems if "Failed to load" not in one] == [], (
        "the policy forbids nothing of ours"
    )


def test_the_keyboard_is_enough(browser: Browser, serving: Serving, machine: Machine) -> None:
    page = open_page(browser, serving, javascript=True)
    for _ in range(3):
        page.keyboard.press("Tab")
    page.keyboard.insert_text(json.dumps(machine.slmgr("/dti")["request"]))
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector(".groups")
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    page.wait_for_selector("figure")


# --- T31 ----------------------------------------------------------------------------------------------------------

BREAKS = ["", '"', "'>", "</textarea>", "</title>", "</p>-->", "\u2028</script>", "]]>", "{{", "\\x3c"]
RUNS = [
    "<script>window.hit=1</script>",
    "<img src=x onerror=window.hit=1>",
    "<svg/onload=window.hit=1>",
    '<iframe srcdoc="<script>parent.hit=1</script>">',
    '<a href="javascript:window.hit=1" autofocus onfocus=window.hit=1>x</a>',
]
PAYLOADS = [opening + run for opening, run in itertools.product(BREAKS, RUNS)]


def give(page: Page, serving: Serving, text: str, file: str, name: str) -> None:
    page.goto(f"{serving.url}/phone")
    page.get_by_label("Text").fill(text)
    page.get_by_label("The request's file").set_input_files(
        {"name": name.replace("/", "_"), "mimeType": "text/plain", "buffer": file.encode()}
    )
    page.get_by_role("button", name="Continue").click()
    assert page.get_by_role("alert").is_visible()
    assert page.evaluate("window.hit === undefined"), (text, file, name)


def test_nothing_of_a_strangers_runs(browser: Browser, serving: Serving, machine: Machine) -> None:
    """T31: 50 payloads in each field, in a file's name and content, and in what the page sends back hidden."""
    page = open_page(browser, serving, javascript=True)
    page.on("dialog", lambda _dialog: pytest.fail("something ran"))
    request = machine.slmgr("/dti")["request"]
    assert len(PAYLOADS) == 50
    for text in ("\n".join(PAYLOADS), "V1:1/2:AAAAAAAA:AAAA" + "".join(PAYLOADS)):
        give(page, serving, text, text, "".join(PAYLOADS)[:200])
    page.get_by_label("Text").fill(json.dumps({**request, "filling": PAYLOADS}))
    page.get_by_role("button", name="Continue").click()
    assert page.evaluate("window.hit === undefined")
    page.get_by_role("button", name="All nine are the same").click()
    assert "request-malformed" in page.get_by_role("alert").inner_text()
    assert json.loads(page.get_by_label("Text").input_value())["filling"] == PAYLOADS
    assert page.evaluate("window.hit === undefined")


@pytest.mark.slow
def test_nothing_of_a_strangers_runs_each_alone(browser: Browser, home: Home) -> None:
    with Serving(home) as own:
        page = open_page(browser, own, javascript=True)
        page.on("dialog", lambda _dialog: pytest.fail("something ran"))
        for payload in PAYLOADS:
            give(page, own, payload, payload, payload)
