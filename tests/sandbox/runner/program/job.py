"""One job, from its first line in the log to its last."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker.errors

from . import log, version
from .archives import ArchiveError
from .configuration import Table, short_token
from .coordinator import Coordinator
from .executor import DockerExecutor, Executor, PodError
from .files import Files, Work
from .images import ImageError, PolicyError
from .payload import Payload
from .script import script
from .sources import SourcesError
from .trace import GREEN, RED, YELLOW, Masker, Trace

AFTER_SCRIPT_TIMEOUT = 300.0


@dataclass(frozen=True)
class Outcome:
    """How a job ended. `reason` in the server's words; nothing is sent of a job that the server has ended itself."""

    state: str
    exit_code: int = 0
    reason: str = ""
    message: str = ""


SUCCESS = Outcome("success")


class Stop:
    """Why a job must end before its time: timeout, cancelled by somebody, or the runner ends."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.why = ""

    def set(self, why: str) -> None:
        """The first reason is the one that counts."""
        if not self.event.is_set():
            self.why = why
            self.event.set()


class Job:
    """One job on one runner. `run` returns once all is reported to the server and removed from the engine."""

    def __init__(self, runner: Table, coordinator: Coordinator, payload: Payload, slot: int) -> None:
        self._runner, self._coordinator, self._payload, self._slot = runner, coordinator, payload, slot
        self.stop = Stop()
        certificate = coordinator.tls_ca_file
        builds = str(runner.get("builds_dir") or "/builds")
        text = Path(certificate).read_text() if certificate else ""
        self._variables = payload.variables(runner, slot, builds, text)
        prefixes = [str(prefix) for prefix in payload.features.get("token_mask_prefixes") or []]
        limit = int(runner.get("output_limit") or 4096) * 1024
        masker = Masker(payload.secrets(self._variables), prefixes)
        self._trace = Trace(coordinator, payload, masker, self._on_status, limit)
        self._project = f"{builds}/{payload.project}"
        self._files = f"{self._project}.tmp"
        self._work = Work(runner, coordinator, payload, self._variables, self._trace.line)

    def run(self) -> None:
        """The whole job."""
        log.info("Job started", job=self._payload.id, project=self._payload.project_id)
        self._trace.start()
        timer = threading.Timer(self._payload.timeout, self.stop.set, ["timeout"])
        timer.daemon = True
        timer.start()
        try:
            outcome = self._outcome()
        finally:
            timer.cancel()
        if outcome is SUCCESS:
            self._trace.line("Job succeeded", GREEN)
        else:
            self._trace.line(f"ERROR: Job failed{outcome.message}", RED)
        write = log.info if outcome is SUCCESS else log.warning
        write(f"Job {'succeeded' if outcome is SUCCESS else 'failed' + outcome.message}", job=self._payload.id)
        self._trace.finish(outcome.state, exit_code=outcome.exit_code, reason=outcome.reason)

    def _on_status(self, status: str) -> None:
        if status in ("canceling", "canceled", "failed"):
            self.stop.set("canceling" if status == "canceling" else "ended")

    def _outcome(self) -> Outcome:
        try:
            with self._executor() as executor:
                return self._steps(executor)
        except ImageError as error:
            reason = "runner_configuration_error" if isinstance(error, PolicyError) else "image_pull_failure"
            known = reason in (self._payload.features.get("failure_reasons") or [])
            return _system(str(error), reason if known else "runner_system_failure")
        except (SourcesError, ArchiveError) as error:
            return Outcome("failed", 1, "script_failure", f": {error}")
        except docker.errors.APIError as error:
            return _system(f"Error response from daemon: {error.explanation or error}")
        except docker.errors.DockerException as error:
            return _system(f"Cannot connect to the Docker daemon: {error}")
        except (PodError, OSError) as error:
            return self._stopped() if self.stop.event.is_set() else _system(str(error))

    def _executor(self) -> Executor:
        if self._runner.get("executor") == "kubernetes":
            # Its client is in the image, and not on machines.
            from .kubernetes import KubernetesExecutor  # noqa: PLC0415

            return KubernetesExecutor(self._work, self._slot, self.stop.event)
        return DockerExecutor(self._work, self._slot)

    def _steps(self, executor: Executor) -> Outcome:
        trace = self._trace
        trace.line(f"Running with gitlab-runner {version()} (standin)")
        short = short_token(str(self._runner.get("token", "")))
        trace.line(f"  on {self._runner.get('name')} {short}, system ID: {self._coordinator.system_id}")
        with trace.section("prepare_executor", f'Preparing the "{self._runner.get("executor")}" executor'):
            executor.prepare(self._variables, self._files)
        with trace.section("prepare_script", "Preparing environment"):
            trace.line(f"Running on {executor.start()}...")
        if self.stop.event.is_set():
            return self._stopped()
        files = executor.files()
        try:
            return self._stages(executor, files)
        finally:
            with trace.section("cleanup_file_variables", "Cleaning up project directory and file based variables"):
                files.clean_up()

    def _stages(self, executor: Executor, files: Files) -> Outcome:
        trace = self._trace
        with trace.section("get_sources", "Getting source from Git repository"):
            files.get_sources()
        if self._payload.cache and files.has_caches:
            with trace.section("restore_cache", "Restoring cache"):
                files.restore_caches()
        if any(entry.get("artifacts_file") for entry in self._payload.dependencies):
            with trace.section("download_artifacts", "Downloading artifacts"):
                files.download_artifacts()
        outcome = self._scripts(executor)
        return self._keep(outcome, files)

    def _scripts(self, executor: Executor) -> Outcome:
        outcome = SUCCESS
        for step in self._payload.steps:
            if step.get("name") != "after_script" and outcome is SUCCESS:
                outcome = self._script(executor, step)
        after = self._payload.step("after_script")
        if after and after.get("script") and self.stop.why not in ("ended", "stopped"):
            self._after_script(executor, after, outcome)
        return outcome

    def _script(self, executor: Executor, step: dict[str, Any]) -> Outcome:
        name = "step_script" if step.get("name") == "script" else f"step_{step.get('name')}"
        text = script(
            self._project,
            [str(line) for line in step.get("script") or []],
            before=str(self._runner.get("pre_build_script", "")),
            after=str(self._runner.get("post_build_script", "")),
        )
        with self._trace.section(name, f'Executing "{name}" stage of the job script'):
            code = executor.run(text, self._trace.write, self.stop.event)
        if self.stop.event.is_set():
            return self._stopped()
        return SUCCESS if code == 0 else Outcome("failed", code, "script_failure", f": exit code {code}")

    def _after_script(self, executor: Executor, step: dict[str, Any], outcome: Outcome) -> None:
        """Its failure changes nothing; it knows how the job went."""
        status = {"canceling": "canceled"}.get(self.stop.why, "success" if outcome is SUCCESS else "failed")
        text = script(
            self._project,
            [f"export CI_JOB_STATUS={status}", *(str(line) for line in step["script"])][1:],
            before=f"export CI_JOB_STATUS={status}",
        )
        late = threading.Event()
        timer = threading.Timer(float(step.get("timeout") or AFTER_SCRIPT_TIMEOUT), late.set)
        timer.daemon = True
        timer.start()
        with self._trace.section("after_script", "Running after_script"):
            self._trace.line("Running after script...", GREEN)
            code = executor.run(text, self._trace.write, late)
            if late.is_set():
                self._trace.line("WARNING: after_script failed, but job will continue unaffected: timeout", YELLOW)
            elif code:
                text = f"WARNING: after_script failed, but job will continue unaffected: exit code {code}"
                self._trace.line(text, YELLOW)
        timer.cancel()

    def _keep(self, outcome: Outcome, files: Files) -> Outcome:
        """Caches and artifacts. A job whose artifacts cannot be stored has failed."""
        if self.stop.why in ("ended", "stopped", "canceling"):
            return outcome
        success = outcome is SUCCESS
        if self._payload.cache and files.has_caches:
            with self._trace.section("archive_cache", "Saving cache"):
                files.save_caches(success=success)
        if self._payload.artifacts:
            with self._trace.section("upload_artifacts", "Uploading artifacts"):
                try:
                    files.upload_artifacts(success=success)
                except ArchiveError as error:
                    self._trace.line(f"ERROR: {error}")
                    return Outcome("failed", 1, "script_failure", f": {error}") if success else outcome
        return outcome

    def _stopped(self) -> Outcome:
        match self.stop.why:
            case "timeout":
                minutes, seconds = divmod(self._payload.timeout, 60)
                took = f"{minutes // 60}h{minutes % 60}m{seconds}s"
                message = f": execution took longer than {took} seconds"
                return Outcome("failed", 0, "job_execution_timeout", message)
            case "stopped":
                return _system("aborted: terminated")
            case _:
                return Outcome("failed", 0, "job_canceled", ": canceled")


def _system(message: str, reason: str = "runner_system_failure") -> Outcome:
    return Outcome("failed", 0, reason, f" (system failure): {message}")
