"""Whom a campaign tells of its first success and of its end: a command of the user's, a webhook, or both."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from workflow.config.strict import Section, literal_path
from workflow.errors import did_you_mean, listing

EVENTS = ("end", "failure", "first_success")

_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")


@dataclass(frozen=True)
class NotifySettings:
    """``command`` begins with an absolute path; it is empty, or ``webhook`` None, where there is no such way.

    ``webhook`` names the environment variable with the address, which often holds a token: nothing else of it is kept.
    """

    command: tuple[str, ...] = ()
    webhook: str | None = None
    events: tuple[str, ...] = EVENTS

    @property
    def address(self) -> str | None:
        return None if self.webhook is None else os.environ.get(self.webhook)

    def to_json(self) -> dict[str, Any]:
        """As experiment files have it."""
        command = [literal_path(self.command[0]), *self.command[1:]] if self.command else None
        webhook = None if self.webhook is None else f"${{{self.webhook}}}"
        return {"command": command, "webhook": webhook, "events": list(self.events)}


def read_notify(top: Section) -> NotifySettings | None:
    """None where nobody is to be told. Adds what is wrong to the problems, an address never among it."""
    if not isinstance(top.raw("notify"), dict | None):
        top.problems.add("notify", "is no section", "write notify: with command or webhook below it")
        return None
    section = top.section("notify")
    command, webhook = _read_command(section), _read_webhook(section)
    events = section.texts("events") if section.raw("events") is not None else list(EVENTS)
    section.finish()
    for event in events or [""]:
        if event not in EVENTS:
            section.wrong("events", event, did_you_mean(event, EVENTS))
    if section.data and section.data.get("command") is None and section.data.get("webhook") is None:
        section.problems.add(section.place, "names nobody to be told", "write a command, or webhook: $NAME")
    return NotifySettings(command, webhook, tuple(events)) if command or webhook else None


def _read_command(section: Section) -> tuple[str, ...]:
    """The program is looked up on PATH, or beside the file where it is given as a path."""
    words = section.texts("command")
    if not words:
        return ()
    given = Section({"command": words[0]}, section.place, section.problems, section.base)
    place = given.path("command") if os.sep in words[0] else words[0]
    if place is None:
        return ()
    program = shutil.which(place)
    if program is None:
        section.wrong("command", words[0], "no such program: write its path or its name, and make it executable")
        return ()
    return (program, *words[1:])


def _read_webhook(section: Section) -> str | None:
    value = section.raw("webhook")
    if value is None:
        return None
    match = _VARIABLE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        what = "does not name an environment variable: an address is a secret, and the run keeps what stands here"
        remedy = "export NAME=https://... and write webhook: $NAME, in single quotes on a command line"
        section.problems.add(section.at("webhook"), what, remedy)
        return None
    name = match[1] or match[2]
    if reason := _wrong_address(os.environ.get(name, "")):
        remedy = f"export {name}=https://..., or leave it out (--set notify=null)"
        section.problems.add(section.at("webhook"), f"the environment variable {name} {reason}", remedy)
    return str(name)


def _wrong_address(text: str) -> str:
    """Why nothing can be sent there; empty if it can."""
    if not text:
        return "is not set, or empty"
    try:
        parts = urlsplit(text)
        is_usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and parts.username is None
    except ValueError:
        is_usable = False
    if not is_usable or not all("!" <= character <= "~" for character in text):
        return "holds no address of the form https://HOST/PATH"
    return ""


def describe(settings: NotifySettings) -> list[str]:
    """Who hears of what, a line each."""
    ways = [f"JSON on standard input of {shlex.join(settings.command)}"] if settings.command else []
    ways += [f"a POST of JSON to ${settings.webhook}"] if settings.webhook else []
    return [f"on {listing(settings.events)}: {way}" for way in ways]
