"""The built site: strict, nothing from the network, search from a file, axe in light and dark."""

import json
import os
import subprocess
import sys

import pytest

from scripts.docs import hooks
from tests.support.browser import chromium
from tests.support.places import ROOT

pytestmark = pytest.mark.slow
MAIN_PAGES = [
    "index", "tutorial/rendered", "tutorial/nails", "how-to/balance", "how-to/own-data",
    "reference/commands/train", "reference/files", "reference/python", "explanation/measured",
]  # fmt: skip
WHAT_MATTERS = {"serious", "critical"}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Folder of the site, built strictly."""
    for package in ("material", "mkdocstrings_handlers.python"):
        pytest.importorskip(package, reason="needs the extra docs: make docs")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module", params=["light", "dark"])
def browser(request, tmp_path_factory):
    """Headless Chromium that prefers light or dark."""
    with chromium(tmp_path_factory.mktemp("chromium")) as driver:
        features = [{"name": "prefers-color-scheme", "value": request.param}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        yield driver


def opened(browser, page, width):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page)


def requests(browser):
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [one["params"] for one in messages if one["method"] == "Network.requestWillBeSent"]
    return {params["request"]["url"] for params in sent}


def test_it_has_the_pages_and_nothing_of_it_is_elsewhere(site):
    assert all((site / f"{page}.html").is_file() for page in MAIN_PAGES)
    assert hooks.foreign_loads(site) == []
    text = (site / "reference" / "python.html").read_text(encoding="utf-8")
    assert 'id="balance_dataset"' in text and "image_dataset_from_directory" in text


@pytest.mark.parametrize("width", [360, 1400])
@pytest.mark.parametrize("page", MAIN_PAGES)
def test_a_page_is_accessible_and_fits_the_window(site, browser, page, width):
    axe = pytest.importorskip("axe_core_python.base", reason="needs the extra docs: make docs").AXE_SCRIPT
    opened(browser, (site / f"{page}.html").as_uri(), width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    browser.execute_script(axe)
    violations = browser.execute_async_script(
        "axe.run({resultTypes: ['violations']}).then(found => arguments[0](found.violations))"
    )
    serious = [(one["id"], one["nodes"][0]["html"]) for one in violations if one["impact"] in WHAT_MATTERS]
    assert serious == []


def test_search_works_from_a_file_and_asks_no_network(site, browser):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    browser.get("about:blank")
    requests(browser)
    opened(browser, (site / "index.html").as_uri(), 1400)
    field = browser.find_element(By.CSS_SELECTOR, ".md-search__input")
    field.click()
    field.send_keys("oversample")
    results = WebDriverWait(browser, 30).until(
        lambda page: page.find_elements(By.CSS_SELECTOR, ".md-search-result__item a[href*='balance.html']")
    )
    assert results
    assert {url.partition(":")[0] for url in requests(browser)} <= {"file", "data", "blob", "about"}
