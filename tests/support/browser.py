"""Headless Chromium, for tests that look at pages."""

import contextlib
import shutil

import pytest

WORDS = (
    "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
    "disable-component-update disable-sync hide-scrollbars force-prefers-reduced-motion"
)


@contextlib.contextmanager
def chromium(profile):
    """The driver of a browser that keeps its console's messages and what it asks the network for.

    Args:
        profile: folder for its files.
    """
    selenium = pytest.importorskip("selenium.webdriver", reason="needs selenium: the extra dev")
    programs = [shutil.which("chromium"), shutil.which("chromedriver")]
    if not all(programs):
        pytest.skip("needs Chromium and its driver: apt-get install chromium chromium-driver")
    options = selenium.ChromeOptions()
    options.binary_location = programs[0]
    for word in [*WORDS.split(), f"user-data-dir={profile}"]:
        options.add_argument(f"--{word}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = selenium.Chrome(options, selenium.ChromeService(programs[1]))
    try:
        yield driver
    finally:
        driver.quit()
