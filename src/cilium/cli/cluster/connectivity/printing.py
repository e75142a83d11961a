"""What is printed while the connectivity test runs: a line per test, a dot per action, everything about what failed.

In: events of `cilium.connectivity.suite`. Out: lines on standard output, as users of upstream's command know them.
"""

from __future__ import annotations

from datetime import datetime

import click

from cilium.connectivity.suite import report
from cilium.connectivity.suite.events import Asked, Event, Note, Outcome, ScenarioSkipped, Started, TestResult


class Printer:
    """`verbose`: every action, as it comes back. `flows`: flows of every action, not only of those that failed."""

    def __init__(self, *, verbose: bool, debug: bool, timestamp: bool, flows: bool) -> None:
        self._verbose, self._debug, self._timestamp, self._flows = verbose or debug, debug, timestamp, flows
        self._dots = False

    def __call__(self, event: Event) -> None:
        match event:
            case Note(sign, text, debug):
                if self._debug or not debug:
                    self.line(f"{sign} {text}")
            case Started(test, number, total):
                self.line(f"[=] Test [{test}] [{number}/{total}]")
            case ScenarioSkipped(name, reason):
                if self._verbose:
                    self.line(f"  [-] Skipping Scenario [{name}] ({reason})")
            case Asked():
                self._asked(event)
            case TestResult():
                self._finished(event)

    def _asked(self, event: Asked) -> None:
        if self._debug:
            self.line(f"  🐛 {event.action}: {' '.join(event.action.command)}")
        elif not self._verbose:
            if not self._dots and self._timestamp:
                click.echo(_now(), nl=False)
            click.echo(".", nl=False)
            self._dots = True

    def _finished(self, test: TestResult) -> None:
        if test.outcome is Outcome.SKIPPED:
            self.line(f"[=] Skipping test [{test.name}] [{test.number}/{test.total}] ({test.reason})")
            return
        self.end_dots()
        for problem in test.problems:
            self.line(f"  🟥 {problem}")
        for result in test.results:
            if self._verbose or self._flows or result.problems or result.warnings:
                for line in report.action_lines(test, result, flows=self._flows or bool(result.problems)):
                    self.line(f"  {line}")

    def line(self, text: str) -> None:
        self.end_dots()
        click.echo(f"{_now()}{text}" if self._timestamp else text)

    def end_dots(self) -> None:
        """Dots stand on a line of their own."""
        if self._dots:
            click.echo()
            self._dots = False


def _now() -> str:
    return f"[{datetime.now().astimezone().isoformat(timespec='seconds')}] "
