"""The last line of a test run: what was skipped, and how to have it."""

from collections import Counter

import pytest


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session):
    """Prints the line below pytest's own summary."""
    yield
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")  # not in the processes of xdist
    reports = reporter.stats.get("skipped", []) if reporter else []
    if reports:
        reporter.write_line(skipped_line(report.longrepr[2].removeprefix("Skipped: ") for report in reports))


def skipped_line(reasons):
    """How many tests were skipped for which reason, the most frequent first."""
    counts = Counter(reasons).most_common()
    listed = "; ".join(f"{count} ({reason})" for reason, count in counts)
    return f"skipped tests: {listed}"
