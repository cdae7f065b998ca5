"""The section ``notify``: read strictly, and no address in any message or file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import toy_experiment
from workflow.config.experiment import Experiment
from workflow.config.load import load_experiment
from workflow.config.notify import EVENTS, NotifySettings, describe
from workflow.errors import InputError

SECRET = "https://hooks.example.org/T0/sEcReT"


@pytest.fixture(autouse=True)
def hook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", SECRET)


def load(directory: Path, notify: Any, **overrides: Any) -> Experiment:
    (directory / "try.yaml").write_text(yaml.safe_dump(toy_experiment(notify=notify)))
    return load_experiment(directory / "try.yaml", overrides)


def refusal(directory: Path, notify: Any, **overrides: Any) -> str:
    with pytest.raises(InputError) as caught:
        load(directory, notify, **overrides)
    assert SECRET not in str(caught.value) and "sEcReT" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("given", [None, {}])
def test_nobody_is_told_unless_the_user_says_whom(tmp_path: Path, given: Any) -> None:
    assert load(tmp_path, given).notify is None
    assert "notify: null" in load(tmp_path, given).to_yaml()


@pytest.mark.parametrize("text", ["$HOOK", "${HOOK}"])
def test_an_address_is_known_by_its_variable(tmp_path: Path, text: str) -> None:
    experiment = load(tmp_path, {"webhook": text})
    assert experiment.notify == NotifySettings((), "HOOK", EVENTS)
    assert experiment.notify.address == SECRET
    assert "sEcReT" not in experiment.to_yaml() + repr(experiment)


def test_settings_are_read_back_by_a_resume(tmp_path: Path) -> None:
    given = {"command": ["sh", "-c", 'echo "$X" ${Y} $$'], "webhook": "$HOOK", "events": ["end", "failure"]}
    experiment = load(tmp_path, given)
    assert experiment.notify is not None and experiment.notify.command[1:] == ("-c", 'echo "$X" ${Y} $$')
    (tmp_path / "space.json").write_text(json.dumps(experiment.space.entries))
    (tmp_path / "resumed.yaml").write_text(experiment.to_yaml())
    assert load_experiment(tmp_path / "resumed.yaml", {}).notify == experiment.notify
    assert load_experiment(tmp_path / "resumed.yaml", {"notify": None}).notify is None
    assert experiment.fingerprint() == load(tmp_path, None).fingerprint()


def test_a_program_beside_the_file(tmp_path: Path) -> None:
    tmp_path = tmp_path / "it costs $5"
    tmp_path.mkdir()
    script = tmp_path / "tell.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    settings = load(tmp_path, {"command": ["./tell.sh", "me"]}).notify
    assert settings is not None and settings.command == (str(script), "me")
    assert load(tmp_path, settings.to_json()).notify == settings
    script.chmod(0o644)
    assert "notify.command: './tell.sh' is not allowed\n    -> no such program" in refusal(
        tmp_path, {"command": ["./tell.sh"]}
    )


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"command": ["no-such-program"]}, "notify.command: 'no-such-program' is not allowed\n    -> no such program"),
        ({"command": "mail me"}, "notify.command: 'mail me' is not allowed\n    -> write a list of strings"),
        ({"events": ["end"]}, "notify: names nobody to be told"),
        ({"webhook": "$HOOK", "events": ["ends"]}, "notify.events: 'ends' is not allowed\n    -> did you mean 'end'?"),
        ({"webhook": "$HOOK", "events": []}, "notify.events: '' is not allowed\n    -> known: end, failure"),
        ({"webhook": "$HOOK", "event": ["end"]}, "notify.event: is not a known key\n    -> did you mean 'events'?"),
        ({"webhook": SECRET}, "notify.webhook: does not name an environment variable"),
        ({"webhook": [SECRET]}, "notify.webhook: does not name an environment variable"),
        ({"webhook": f"$HOOK/{SECRET}"}, "notify.webhook: does not name an environment variable"),
        (
            {"webhook": "$NO_SUCH"},
            "notify.webhook: the environment variable NO_SUCH is not set, or empty\n    -> export",
        ),
        (SECRET, "notify: is no section\n    -> write notify: with command or webhook below it"),
    ],
)
def test_bad_settings_are_refused(tmp_path: Path, given: Any, told: str) -> None:
    assert f"try.yaml: {told}" in refusal(tmp_path, given)


def test_an_address_that_a_shell_has_put_in_is_refused(tmp_path: Path) -> None:
    """The command line of a run stands in its journal."""
    told = refusal(tmp_path, None, **{"notify.webhook": SECRET})
    assert "--set notify.webhook: does not name an environment variable" in told and "in single quotes" in told


@pytest.mark.parametrize(
    "address",
    [
        "sEcReT", "ftp://host/sEcReT", "https:///sEcReT", "http://host:port/sEcReT", "http://host/sEcReT x",
        "http://me:sEcReT@host/", "http://[sEcReT/", "http://host/sEcReT\n", "http://höst/sEcReT", "file:///sEcReT",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_without_being_shown(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK", address)
    assert "the environment variable HOOK holds no address of the form https://HOST/PATH" in refusal(
        tmp_path, {"webhook": "$HOOK"}
    )


def test_a_dry_run_can_say_who_hears_of_what() -> None:
    settings = NotifySettings(("/bin/mail", "-s", "a run"), "HOOK", ("end",))
    assert describe(settings) == [
        "on end: JSON on standard input of /bin/mail -s 'a run'",
        "on end: a POST of JSON to $HOOK",
    ]
