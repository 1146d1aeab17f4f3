"""The page in a real browser: figures are drawn, the filter and the search count right, a phone shows it whole."""

import os
import shutil
from collections.abc import Iterator

import pytest

from rlhf.report.build import build
from rlhf.report.html import html
from tests.report.runs import Run, prices

CHROME = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome", "chrome") if (path := shutil.which(name))), None
)
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROME and DRIVER), reason="no chromium with chromedriver on PATH: the page was not opened"
)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    run = Run(tmp_path_factory.mktemp("page"))
    path = run.folder / "index.html"
    path.write_text(html(build(run.read(), prices())), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROME or ""
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER, log_output=os.devnull))
    yield driver
    driver.quit()


def settles(driver: object, count: int) -> None:
    """The count is announced, and as many rows are seen; a choice in a list is handled a moment later."""
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(driver, 10).until(lambda d: d.find_element("id", "count").text == f"{count} of 4")  # type: ignore[type-var]
    assert shown(driver) == count


def shown(driver: object) -> int:
    return len([row for row in driver.find_elements("css selector", ".sample") if row.is_displayed()])  # type: ignore[attr-defined]


def choose(driver: object, name: str, value: str) -> None:
    from selenium.webdriver.support.ui import Select

    Select(driver.find_element("id", name)).select_by_value(value)  # type: ignore[attr-defined]


def test_figures_are_drawn_and_nothing_is_asked_for(browser, address: str) -> None:  # type: ignore[no-untyped-def]
    browser.get(address)
    figures = browser.find_elements("css selector", "figure svg")
    assert len(figures) >= 14
    for figure in figures:
        assert figure.size["width"] > 200
        assert figure.size["height"] > 80
        assert figure.find_elements("css selector", "path")
    fetched = browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert fetched == []
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_the_filter_and_the_search_count_right(browser, address: str) -> None:  # type: ignore[no-untyped-def]
    browser.get(address)
    assert shown(browser) == 4
    for outcome, count in (("win", 2), ("tie", 1), ("lose", 1), ("", 4)):
        choose(browser, "outcome", outcome)
        settles(browser, count)
    box = browser.find_element("id", "search")
    box.send_keys("ANSWER 3 ppo")
    settles(browser, 1)
    choose(browser, "outcome", "lose")
    settles(browser, 0)
    box.clear()
    box.send_keys("nothing like it")
    choose(browser, "outcome", "")
    settles(browser, 0)


@pytest.mark.parametrize("width", [360, 390, 1280])
def test_nothing_is_wider_than_the_screen(browser, address: str, width: int) -> None:  # type: ignore[no-untyped-def]
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(address)
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
