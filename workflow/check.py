"""``python -m workflow.check``: whether a model and a site are fit for a campaign."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from workflow.config.experiment import Experiment
from workflow.config.load import load_experiment
from workflow.config.strict import parse_overrides, shipped, split_overrides
from workflow.doctor.findings import Finding
from workflow.doctor.setup import examine
from workflow.errors import EXIT_DONE, InputError, WorkflowError
from workflow.request import SiteHelp, refuse_file
from workflow.rundir import whole_path
from workflow.site import Site, find_site, load_site
from workflow.terminal import run_command

EXIT_FAILS = 1

_LABELS = {"pass": "pass", "warn": "WARN", "fail": "FAIL"}


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    return run_command(lambda: _check_and_print(args))


def _check_and_print(args: argparse.Namespace) -> int:
    try:
        return _check(args)
    except InputError as error:
        if args.json:
            print(json.dumps({"ok": False, "error": str(error), "findings": []}, indent=2))
        raise
    except BrokenPipeError:  # nobody reads any more, and so nobody was told that all is well
        return EXIT_FAILS


def _check(args: argparse.Namespace) -> int:
    if args.epochs < 1:
        raise InputError(f"--epochs {args.epochs}: is below 1\n    -> write at least 1")
    refuse_file(args.output)
    for_experiment, for_site = split_overrides(parse_overrides(args.settings))
    site = load_site(find_site(args.site), for_site)
    experiment = load_experiment(
        args.experiment or shipped("configs") / "demo.yaml", for_experiment, remote=site.endpoint is not None
    )
    with closing(_findings(args, experiment, site)) as findings:
        return _report(findings, as_json=args.json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m workflow.check",
        description="Check an experiment on a site, then run its stages once with a short training.",
        epilog="exit codes: 0 all is well (warnings may be left); 1 something fails; 2 bad input; "
        "3 the output's disk is full",
        allow_abbrev=False,
    )
    parser.add_argument("--site", required=True, help="site by name or path, as for workflow.run")
    parser.add_argument("--site-help", action=SiteHelp, help="explain every key of site files and exit")
    parser.add_argument("--experiment", type=Path, help="experiment YAML file; the shipped demo if left out")
    parser.add_argument("--output", type=Path, default=Path("runs"), help="where runs will be made (default: runs)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings", help="as for run")
    parser.add_argument("--epochs", type=int, default=1, help="epochs of the short training (default: 1)")
    parser.add_argument("--fast", action="store_true", help="leave out what runs the model")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    return parser


def _findings(args: argparse.Namespace, experiment: Experiment, site: Site) -> Generator[Finding]:
    output = whole_path(args.output)
    failed = False
    for finding in examine(experiment, site, output):
        failed = failed or finding.level == "fail"
        yield finding
    if args.fast:
        return
    if failed:
        yield Finding("warn", "model", "was not run, since something above fails", "mend that first")
        return
    from workflow.doctor.rehearsal import rehearse

    try:
        yield from rehearse(experiment, site, output / f".check-{os.getpid()}", args.epochs)
    except WorkflowError as error:
        yield Finding("fail", "site", str(error), "mend the site, and check again")


def _report(findings: Iterator[Finding], *, as_json: bool) -> int:
    """Print findings as they come; JSON at the end."""
    found = []
    for finding in findings:
        found.append(finding)
        if not as_json:
            _print(finding)
    failed = sum(finding.level == "fail" for finding in found)
    warned = sum(finding.level == "warn" for finding in found)
    if as_json:
        summary = {"ok": not failed, "failed": failed, "warned": warned, "findings": [asdict(each) for each in found]}
        print(json.dumps(summary, indent=2), flush=True)
    else:
        print(f"{len(found) - failed - warned} passed, {warned} warnings, {failed} failed", flush=True)
    return EXIT_FAILS if failed else EXIT_DONE


def _print(finding: Finding) -> None:
    print(f"{_LABELS[finding.level]}  {finding.subject}: {finding.text}", flush=True)
    if finding.level != "pass" and finding.remedy:
        print(f"      -> {finding.remedy}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
