"""The page in a real browser: figures, filter, search, columns, both colour schemes, phone and print."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlhf.report.build import build
from rlhf.report.html import html
from tests.diagnose.made import SOUND
from tests.report.runs import Run, prices


def found(names: tuple[str, ...], paths: tuple[str, ...]) -> str | None:
    on_path = [path for name in names if (path := shutil.which(name))]
    return next(iter([*on_path, *(path for path in paths if Path(path).is_file())]), None)


CHROME = found(("chromium", "chromium-browser", "google-chrome", "chrome"), ("/usr/bin/chromium",))
DRIVER = found(("chromedriver",), ("/usr/bin/chromedriver", "/usr/lib/chromium/chromedriver"))
LACKING = [name for name, path in (("chromium", CHROME), ("chromedriver", DRIVER)) if path is None]
pytestmark = pytest.mark.skipif(bool(LACKING), reason=f"the page was not opened: no {' and no '.join(LACKING)}")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    run = Run(tmp_path_factory.mktemp("page"))
    run.diagnose(SOUND)
    path = run.folder / "index.html"
    path.write_text(html(build(run.read(), prices())), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROME or ""
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER, log_output=os.devnull))
    yield driver
    driver.quit()


@pytest.fixture
def browser(driver: Any) -> Any:
    """A desktop in the light."""
    look(driver, 1280)
    return driver


def look(driver: Any, width: int, scheme: str = "light", media: str = "") -> None:
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})


def settles(driver: Any, count: int) -> None:
    """The count is announced, and as many rows are seen; a choice in a list is handled a moment later."""
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(driver, 30).until(lambda d: d.find_element("id", "count").text == f"{count} of 4")
    assert shown(driver) == count


def shown(driver: Any) -> int:
    return len([row for row in driver.find_elements("css selector", ".sample") if row.is_displayed()])


def choose(driver: Any, name: str, value: str) -> None:
    from selenium.webdriver.support.ui import Select

    Select(driver.find_element("id", name)).select_by_value(value)


def box(driver: Any, selector: str) -> dict[str, float]:
    script = "return document.querySelector(arguments[0]).getBoundingClientRect().toJSON()"
    place: dict[str, float] = driver.execute_script(script, selector)
    return place


def style(driver: Any, selector: str, name: str) -> str:
    script = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
    return str(driver.execute_script(script, selector, name))


def test_figures_are_drawn_and_nothing_is_asked_for(browser: Any, address: str) -> None:
    browser.get(address)
    figures = browser.find_elements("css selector", "figure svg")
    assert len(figures) >= 13
    for figure in figures:
        assert figure.size["width"] > 200
        assert figure.size["height"] > 80
        assert figure.find_elements("css selector", "path")
    fetched = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert fetched == []
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_no_letter_of_a_figure_is_cut_off(browser: Any, address: str) -> None:
    browser.get(address)
    cut = browser.execute_script(
        "return [...document.querySelectorAll('figure svg')].flatMap(svg => { const s = svg.getBoundingClientRect();"
        "return [...svg.querySelectorAll('text')].filter(t => { const b = t.getBoundingClientRect();"
        "return b.left < s.left - 1 || b.right > s.right + 1 || b.top < s.top - 1 || b.bottom > s.bottom + 1; })"
        ".map(t => t.textContent); })"
    )
    assert cut == []


def test_the_filter_and_the_search_count_right(browser: Any, address: str) -> None:
    browser.get(address)
    assert shown(browser) == 4
    for outcome, count in (("win", 2), ("tie", 1), ("lose", 1), ("", 4)):
        choose(browser, "outcome", outcome)
        settles(browser, count)
    search = browser.find_element("id", "search")
    search.send_keys("ANSWER 3 ppo")
    settles(browser, 1)
    choose(browser, "outcome", "lose")
    settles(browser, 0)
    search.clear()
    search.send_keys("nothing like it")
    choose(browser, "outcome", "")
    settles(browser, 0)


@pytest.mark.parametrize("width", [360, 390, 768, 1280, 1920])
def test_nothing_is_wider_than_the_screen(browser: Any, address: str, width: int) -> None:
    look(browser, width)
    browser.get(address)
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [1280, 1920])
def test_a_desktop_has_contents_at_the_side_and_figures_beside_text(browser: Any, address: str, width: int) -> None:
    look(browser, width)
    browser.get(address)
    assert box(browser, "nav li a")["right"] < box(browser, "main")["left"]
    prose, beside = box(browser, "#evaluation .prose"), box(browser, "#evaluation .beside figure")
    assert prose["right"] <= beside["left"]
    assert abs(prose["top"] - beside["top"]) < 50
    assert box(browser, "main")["right"] > 0.9 * width
    browser.execute_script("window.scrollTo(0, 3000)")
    assert 0 <= box(browser, "nav li a")["top"] < 100  # still to be seen


def test_a_phone_shows_verdict_and_numbers_before_anything_else(browser: Any, address: str) -> None:
    look(browser, 390)
    browser.get(address)
    assert box(browser, ".status")["bottom"] < 800
    assert box(browser, ".facts > div")["bottom"] < 800
    assert box(browser, ".opening figure")["bottom"] <= box(browser, ".opening .prose")["top"] + 1
    assert not browser.find_element("css selector", "nav li a").is_displayed()
    browser.find_element("css selector", "nav summary").click()
    assert browser.find_element("css selector", "nav li a").is_displayed()


def test_page_and_figures_follow_the_readers_scheme(browser: Any, address: str) -> None:
    light, dark = (("rgb(255, 255, 255)", "rgb(0, 0, 0)"), ("rgb(20, 23, 26)", "rgb(242, 242, 242)"))
    for scheme, wanted in (("light", light), ("dark", dark)):
        look(browser, 1280, scheme)
        browser.get(address)
        assert (style(browser, "body", "backgroundColor"), style(browser, "figure svg text", "fill")) == wanted
    line = "figure svg path[style*='--series-1']"
    assert "rgb(0, 114, 178)" not in (style(browser, line, "stroke"), style(browser, line, "fill"))
    look(browser, 1280, "dark", media="print")  # on paper it is light again, without contents or filter
    assert style(browser, "figure svg text", "fill") == light[1]
    assert style(browser, "nav", "display") == style(browser, ".filter", "display") == "none"
