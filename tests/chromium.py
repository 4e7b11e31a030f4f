"""The browser of the tests of pages."""

import shutil

import pytest


@pytest.fixture(scope="module")
def browser():
    """Chromium by Playwright, or a skip where either is missing.

    Of one module: while it is there an event loop runs, and tests can have none of their own.
    """
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="Playwright is not installed: requirements-browser.txt"
    )
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("Chromium is not installed")
    with sync_api.sync_playwright() as playwright:
        # As root a browser runs without its sandbox only.
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=path, args=options)
        yield browser
        browser.close()
