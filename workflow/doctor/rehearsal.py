"""Runs a model's stages once, shortened, as a campaign would run them, and tells what a campaign would cost."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from workflow.attempt import log_excerpt
from workflow.config.experiment import Experiment
from workflow.doctor.findings import Finding
from workflow.errors import SiteError, listing
from workflow.lock import RunLock
from workflow.remedies import DRIVER_WORDS, remedy
from workflow.rundir import RunDir
from workflow.runner import StageRunner
from workflow.site import Site
from workflow.trial import Outcome, Trial, Value

EPOCHS = "epochs"
"""The hyperparameter that says how long a training is."""

_TIMEOUT = 1800.0

_CHEAP, _LONGER = 60.0, 10
"""A training of fewer seconds is followed by one of so many times its epochs."""


def rehearse(experiment: Experiment, site: Site, directory: Path, epochs: int) -> Iterator[Finding]:
    """Preprocess, one training of ``epochs`` epochs, and inference, on the site; stops at the first that fails.

    ``directory`` is made, and removed again if all is well.
    """
    run = RunDir(directory)
    try:
        run.data.mkdir(parents=True)
    except OSError as error:
        raise SiteError(f"--output {directory.parent}: cannot be made ({error.strerror})") from error
    lock = RunLock(run.lock)
    lock.acquire()
    run.journal.touch()  # what tells a run that is gone
    well = True
    try:
        with StageRunner(site, _limited(experiment), run, lock) as runner:
            runner.watches_gpus = site.gpu_vendor == "nvidia"
            for finding in _stages(experiment, site, runner, epochs):
                well = well and finding.level != "fail"
                yield finding
    finally:
        lock.release()
        if well:
            shutil.rmtree(directory, ignore_errors=True)
    if not well:
        yield Finding("warn", "files", f"kept in {directory}", "remove them when they are no longer needed")


def _limited(experiment: Experiment) -> Experiment:
    stages = {
        name: replace(stage, timeout=min(stage.timeout or _TIMEOUT, _TIMEOUT))
        for name, stage in experiment.stages.items()
    }
    return replace(experiment, stages=stages)


def _stages(experiment: Experiment, site: Site, runner: StageRunner, epochs: int) -> Iterator[Finding]:
    if "preprocess" in experiment.stages:
        done = _wait(runner.preprocess(1))
        yield _told(runner, "preprocess", done, f"{done.seconds:.1f} s")
        if done.kind != "ok":
            return
        runner.prepared(1)
    trial, planned = _short_trial(experiment, epochs)
    trained = _wait(runner.train(trial, 1, frozenset()))
    length = f"{epochs} of {planned:g} epochs" if planned else "whole, since no hyperparameter is named epochs"
    score = f"{experiment.objective.metric} {trained.value:.6g}" if trained.value is not None else ""
    yield _told(runner, "train", trained, f"{trained.seconds:.1f} s ({length}), {score}")
    if trained.kind != "ok":
        return
    if experiment.early_stopping is not None:
        yield _early_stopping(experiment.objective.metric, trained)
    yield _gpu(site, trained, runner.gpus_used(trained))
    if "infer" in experiment.stages:
        done = _wait(runner.infer(trial, trained, 1))
        scores = ", ".join(f"{name}={value:.6g}" for name, value in done.metrics.items())
        yield _told(runner, "infer", done, f"{done.seconds:.1f} s, {scores or 'no scores'}")
        if done.kind == "ok" and not scores:
            yield Finding("warn", "infer", "wrote no test_scores.json", "write it, for the winner's test scores")
    yield _estimate(experiment, site, _full_length(runner, trial, trained, epochs, planned))


def _wait(future: Future[Outcome]) -> Outcome:
    return future.result()


def _short_trial(experiment: Experiment, epochs: int) -> tuple[Trial, float]:
    """The search's first trial with few epochs, and the epochs that it would have had (0 if it names none)."""
    trial = experiment.make_search().ask()
    assert trial is not None, "a new search asks at least once"
    planned = trial.params.get(EPOCHS, experiment.stages["train"].args.get(EPOCHS))
    if isinstance(planned, bool) or not isinstance(planned, int | float) or planned <= epochs:
        return trial, 0.0
    value: Value = epochs
    return replace(trial, params={**trial.params, EPOCHS: value}), float(planned)


def _told(runner: StageRunner, stage: str, outcome: Outcome, text: str) -> Finding:
    if outcome.kind == "ok":
        return Finding("pass", stage, text)
    directory = runner.run.trial_attempt(0, 1) if stage == "train" else runner.run.stage_attempt(stage, 1)
    return Finding("fail", stage, outcome.evidence + log_excerpt(directory), _remedy(outcome.evidence, runner))


def _remedy(evidence: str, runner: StageRunner) -> str:
    if f"timeout after {_TIMEOUT:g} s" in evidence:
        return "the check gives a stage half an hour at most: give it less data, or use --fast"
    if any(words in evidence for words in DRIVER_WORDS) and _brings_the_driver(runner):
        return (
            "the driver is here, and --nv brings it, but the image cannot load it: add what it needs (libdl, librt and "
            "libpthread, of glibc), and let no LD_LIBRARY_PATH of the image hide /.singularity.d/libs"
        )
    return remedy(evidence) or "read the log above, mend the model, and check again"


def _brings_the_driver(runner: StageRunner) -> bool:
    """Whether containers on this machine get the NVIDIA driver that it has."""
    site, runtime = runner.site, runner.experiment.model.runtime
    here = site.scheduler in ("local", "threads") and site.gpu_vendor == "nvidia"
    return here and runtime == "apptainer" and _has_device("nvidia")


def _gpu(site: Site, trained: Outcome, used: Mapping[str, Any] | None) -> Finding:
    """Which GPU the training got, and which it used as far as that can be seen."""
    given = f"GPU {trained.gpu} of {trained.host}"
    if trained.gpu is None and site.gpus:
        return Finding("fail", "GPU", "the training got none, although the site has some", "check the site's gpus")
    if trained.gpu is None:
        return Finding(
            "warn", "GPU", f"the training ran on {trained.host} without one", "choose a site with GPUs, if it needs one"
        )
    if site.scheduler in ("local", "threads") and not _has_device(site.gpu_vendor):
        what = f"the training was given {given}, which has no device of {site.gpu_vendor}"
        return Finding("warn", "GPU", what, "check the site's gpus and gpu_vendor, and the driver")
    if used is None:
        return Finding("pass", "GPU", f"the training was given {given}")
    if used["error"]:
        what = f"the training was given {given}; what it used cannot be seen: {used['error']}"
        return Finding("warn", "GPU", what, "look into the node's driver, if its GPUs are NVIDIA's")
    if not used["gpus"]:
        what = f"the training was given {given}, and used no GPU in {used['looks']} looks"
        remedy = "build the image for CUDA, and see in its log which device the model takes; longer with --epochs"
        return Finding("warn", "GPU", what, remedy)
    shown = listing(f"{gpu['index']} ({gpu['name']}, {gpu['uuid']})" for gpu in used["gpus"])
    wanted = trained.gpu.split(",")
    if all(gpu.isdigit() for gpu in wanted) and not {gpu["index"] for gpu in used["gpus"]} <= set(wanted):
        what = f"the training was given {given}, and used {shown}"
        return Finding("fail", "GPU", what, "let train.sh set CUDA_VISIBLE_DEVICES to its first argument, and no other")
    return Finding("pass", "GPU", f"the training was given {given}, and used {shown}")


def _early_stopping(metric: str, trained: Outcome) -> Finding:
    if trained.curve:
        step, value = trained.curve[-1]
        return Finding("pass", "early stopping", f"the log tells {metric} by steps, the last time {value:g} at {step}")
    what = f"no line of the training's log tells an epoch's {metric}, so no trial would be stopped"
    remedy = f"let the model print lines such as 'epoch 7 {metric}: 0.5', or set early_stopping.pattern"
    return Finding("warn", "early stopping", what, remedy)


_DEVICES = {"nvidia": "nvidia[0-9]*", "amd": "kfd", "intel": "dri/renderD*"}


def _has_device(vendor: str) -> bool:
    return any(Path("/dev").glob(_DEVICES.get(vendor, "null")))


def _full_length(runner: StageRunner, trial: Trial, trained: Outcome, epochs: int, planned: float) -> float:
    """Seconds of a training of all its epochs; a second, longer one tells epochs from start-up, where that is cheap."""
    if not planned:
        return trained.seconds
    longer = min(_LONGER * epochs, int(planned))
    if trained.seconds < _CHEAP and longer > epochs:
        again = _wait(runner.train(replace(trial, params={**trial.params, EPOCHS: longer}), 2, frozenset()))
        if again.kind == "ok":
            an_epoch = max(0.0, again.seconds - trained.seconds) / (longer - epochs)
            return trained.seconds + an_epoch * (planned - epochs)
    return trained.seconds * planned / epochs


def _estimate(experiment: Experiment, site: Site, seconds: float) -> Finding:
    """From one training, scaled by its epochs: right to a factor, since hyperparameters change a training's time."""
    budget, finals = experiment.make_search().budget, experiment.finalists.size
    share = site.gpus_per_trial / site.trials_per_gpu if site.gpus else 1
    hours = (budget + finals) * seconds * share / 3600
    wall = timedelta(seconds=math.ceil((budget + finals) * seconds / site.capacity))
    unit = "GPU-hours" if site.gpus else "worker-hours"
    reruns = f" and {finals} re-runs" if finals else ""
    trials = f"at most {budget} trials{reruns} of about {timedelta(seconds=math.ceil(seconds))}"
    limits = experiment.budgets(gpus=bool(site.gpus), trials_per_gpu=site.trials_per_gpu).limits
    sooner = f"; it ends sooner at {' or '.join(limits)}" if limits else ""
    return Finding("pass", "estimate", f"{trials}: {hours:.3g} {unit}, {wall} on {site.capacity} workers{sooner}")
