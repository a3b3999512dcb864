"""What `make status` asks of each part of an installation. Every question only reads."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Final

import gitlab
import httpx

from components.package_repository import RELEASES, fetch, index_of, parts_of, versions_in
from components.upgrades import upgrade_errors
from tools.answers import Answer, Health, Question, age, reason_of, size, together, worst
from tools.clients import FAILURES, REGISTRY_FOLDER, CheckError, Outputs, objects_in
from tools.machines import SERVER, Machine, machines_of
from tools.state import Resource, StackState
from tools.verify import certificate_of

#: Days: GitLab renews a certificate 30 days before its end, so a younger end says that it could not.
_CERTIFICATE_DAYS: Final = 14
#: Parts of a disk: from the first on it is worth a look, from the second on GitLab or jobs stop soon.
_DISK_NOTICE, _DISK_FULL = 0.8, 0.9
_DISKS = Path(__file__).with_name("disks.sh")


def gitlab_answers(question: Question) -> Answer:
    """The sign-in page is served, and the API accepts the stack's token."""
    outputs = question.outputs
    began = time.monotonic()
    try:
        page = httpx.get(f"{outputs.url}/users/sign_in", timeout=question.seconds, verify=outputs.trust())
    except httpx.HTTPError as error:
        return Answer(Health.FAILING, f"{outputs.url} does not answer: {reason_of(error)}")
    took = time.monotonic() - began
    if page.status_code != HTTPStatus.OK:
        return Answer(Health.FAILING, f"{outputs.url}/users/sign_in answers {page.status_code}")
    try:
        # Not the client's own `version`, which takes any error for a version that is not known.
        found = question.client().http_get("/version")
    except gitlab.GitlabAuthenticationError:
        return Answer(Health.FAILING, "the stack's API token is not accepted; an update creates another: run make up")
    expires = str(outputs.values.get("gitlab_api_token_expires") or "")
    version = found.get("version") if isinstance(found, dict) else None
    values = {"version": version, "seconds": round(took, 3), "api_token_expires": expires}
    text = f"{version}, sign-in page in {took:.1f} s"
    if expires and date.fromisoformat(expires) <= datetime.now(UTC).date():
        return Answer(Health.NOTICE, f"{text}; the API token has ended ({expires}): run make up", values)
    return Answer(Health.HEALTHY, text, values)


def registry_answers(question: Question) -> Answer:
    """The registry asks for a login; and how much is in its storage."""
    outputs = question.outputs
    deadline = time.monotonic() + question.seconds
    try:
        page = httpx.get(f"https://{outputs.registry}/v2/", timeout=question.seconds, verify=outputs.trust())
    except httpx.HTTPError as error:
        return Answer(Health.FAILING, f"{outputs.registry} does not answer: {reason_of(error)}")
    if page.status_code != HTTPStatus.UNAUTHORIZED:
        return Answer(Health.FAILING, f"{outputs.registry}/v2/ answers {page.status_code}, not 401 (a login)")
    try:
        count, whole = _usage(outputs, deadline)
    except FAILURES as error:
        return Answer(Health.UNKNOWN, f"answers; its usage is not known: {reason_of(error)}", {"bytes": None})
    place = f"bucket {outputs.storage['bucket']}" if outputs.storage else "the server's volume"
    amount = f"{'' if whole else 'more than '}{size(count)} in {place}"
    return Answer(Health.HEALTHY, f"answers; {amount}", {"bytes": count, "counted_whole": whole})


def _usage(outputs: Outputs, deadline: float) -> tuple[int, bool]:
    """The bytes in the registry's storage, and whether all of it was counted in time."""
    left = deadline - time.monotonic()
    if outputs.storage is None:
        said = outputs.ssh(f"sudo timeout {left:.1f} du --summarize --bytes {REGISTRY_FOLDER}", timeout=left)
        return int(said.split()[0]), True
    count = 0
    for page in objects_in(outputs.storage, ca_certificate=outputs.ca_certificate, timeout=left):
        count += sum(int(one["Size"]) for one in page)
        # With time to spare for a page that takes longer.
        if time.monotonic() > deadline - left / 3:
            return count, False
    return count, True


def certificates_last(question: Question) -> Answer:
    """The days that are left of the certificates of GitLab and of its registry, which have to be trusted."""
    outputs = question.outputs
    found = {}
    for port in (443, outputs.registry_port):
        try:
            found[port] = certificate_of(outputs.host, port, outputs.trust(), question.seconds / 2)
        except OSError as error:
            return Answer(Health.FAILING, f"port {port}: {reason_of(error)}")
    days = int(min(one.days for one in found.values()))
    text = f"{days} days left, issued by {found[443].issuer}"
    if days >= _CERTIFICATE_DAYS:
        return Answer(Health.HEALTHY, text, {"days": days})
    how = "sudo gitlab-ctl renew-le-certs on the server says why; your own is certificate.chain in the stack file"
    return Answer(Health.FAILING, f"{text}, and it was not renewed: {how}", {"days": days})


def disks_have_space(question: Question) -> Answer:
    """How full the disks of all machines are."""
    machines = list(machines_of(question.state, question.outputs))
    return together({one.name: partial(_disks, one, question) for one in machines}, question.seconds)


def _disks(machine: Machine, question: Question) -> Answer:
    script = _DISKS.read_text(encoding="utf-8")
    limit = f"sudo timeout {question.seconds:.1f} bash -s"
    said = machine.pinned(question.outputs).ssh(limit, script, timeout=question.seconds)
    found = [_disk(*line.split()) for line in said.splitlines()]
    values = {name: value for answer in found for name, value in answer.values.items()}
    return Answer(worst(found), ", ".join(answer.text for answer in found), values)


def _disk(place: str, *numbers: str) -> Answer:
    if not numbers:
        return Answer(Health.FAILING, f"the data volume is not mounted at {place}: make drift", {place: None})
    whole, used = (int(number) for number in numbers)
    full = used / whole
    health = Health.FAILING if full >= _DISK_FULL else Health.NOTICE if full >= _DISK_NOTICE else Health.HEALTHY
    return Answer(health, f"{place} {full:.0%} of {size(whole)}", {place: {"bytes": whole, "used": used}})


def runners_are_online(question: Question) -> Answer:
    """The runners of the stack, and how many of their machines GitLab hears from."""
    runners = [one for one in question.state.resources if one.noun == "UserRunner" and not one.is_pending]
    if not runners:
        return Answer(Health.HEALTHY, "none in this stack")
    client = question.client()
    health, words, values = Health.HEALTHY, [], {}
    for runner in runners:
        name = str(runner.values.get("description"))
        prefix = runner.name.removesuffix("-registration")
        pattern = re.compile(rf"{re.escape(prefix)}-\d+-droplet")
        expected = len([one for one in question.state.of("Droplet") if pattern.fullmatch(one.name)])
        status, online = _machines_online(client, runner)
        values[name] = {"status": status, "machines": expected, "online": online}
        if status in {"online", "idle"} and online >= expected:
            words.append(f"{name} online" + (f" ({online} machines)" if expected > 1 else ""))
            continue
        health = Health.FAILING
        words.append(f"{name} {status}, {online} of {expected} machines online: make logs WHAT=runner")
    return Answer(health, "; ".join(words), values)


def _machines_online(client: gitlab.Gitlab, runner: Resource) -> tuple[str, int]:
    try:
        found = client.runners.get(runner.id)
        managers = client.http_list(f"/runners/{runner.id}/managers", get_all=True)
    except gitlab.GitlabError as error:
        if error.response_code == HTTPStatus.NOT_FOUND:
            return "deleted in GitLab (make up creates it again)", 0
        raise
    status = "paused" if found.paused else str(found.status)
    return status, len([one for one in managers if one["status"] == "online"])


def pipelines_ended(question: Question) -> Answer:
    """The last pipeline of each project's default branch. What a team's code does is no fault of the installation."""
    projects = [one for one in question.outputs.projects if one.get("docker_pull")]
    if not projects:
        return Answer(Health.HEALTHY, "no project with a pipeline in this stack")
    paths = [one["url"].removeprefix(f"{question.outputs.url}/") for one in projects]
    return together({path: partial(_pipeline, path, question) for path in paths}, question.seconds)


def _pipeline(path: str, question: Question) -> Answer:
    try:
        found = question.client().projects.get(path, lazy=True).pipelines.latest()
    except gitlab.GitlabError as error:
        if error.response_code not in {HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN}:
            raise
        return Answer(Health.NOTICE, "no pipeline")
    ended = datetime.fromisoformat(found.finished_at or found.updated_at).timestamp()
    values = {"status": found.status, "id": found.id, "url": found.web_url, "sha": found.sha}
    text = f"{found.status} {age(time.time() - ended)} ago"
    if found.status in {"failed", "canceled"}:
        return Answer(Health.NOTICE, f"{text}, {found.web_url}", values)
    return Answer(Health.HEALTHY, text, values)


def backup_is_young(question: Question) -> Answer:
    """The age of the last complete backup, by its manifest in the Space, which is written last."""
    space = question.outputs.backup or {}
    limit = space.get("max_age_hours")
    if not limit:
        return Answer(Health.HEALTHY, "none: the stack file has no backup.enabled", {"enabled": False})
    ca_certificate, folder = question.outputs.ca_certificate, f"{space['prefix']}/backups/"
    pages = objects_in(space, folder, ca_certificate=ca_certificate, timeout=question.seconds)
    # Names in the encrypted folder stay readable; the program that encrypts may add a suffix.
    manifests = [one for page in pages for one in page if re.search(r"/manifest\.json(\.bin)?$", one["Key"])]
    if not manifests:
        return Answer(Health.FAILING, "there is no complete backup; make one with: make backup", {"enabled": True})
    newest = max(manifests, key=lambda one: one["LastModified"])
    seconds = time.time() - newest["LastModified"].timestamp()
    text = f"{age(seconds)} old, {len(manifests)} in all"
    values = {"enabled": True, "hours": round(seconds / 3600, 1), "max_age_hours": int(limit), "count": len(manifests)}
    if seconds > int(limit) * 3600:
        return Answer(Health.FAILING, f"{text}; backup.maxAgeHours is {limit}. Why: make logs WHAT=backup", values)
    return Answer(Health.HEALTHY, text, values)


def versions_are_newest(question: Question) -> Answer:
    """Newer packages than those that the stack has installed, in the repositories that it installs from."""
    found = [*_newer_gitlab(question), *_newer_runners(question)]
    values = {name: {"installed": now, "newest": newest} for name, now, newest in found}
    newer = [f"{name} {newest} (installed: {now})" for name, now, newest in found if newest]
    if not newer:
        installed = ", ".join(f"{name} {now}" for name, now, _ in found)
        return Answer(Health.HEALTHY, f"{installed}: the newest that can follow", values)
    return Answer(Health.NOTICE, f"can follow: {', '.join(newer)}", values)


def _newer_gitlab(question: Question) -> Iterator[tuple[str, str, str]]:
    url = _setting(question.state, "gitlab-package", "PACKAGES_URL")
    image = next(
        str(one.values.get("image")) for one in question.state.of("Droplet") if one.name == f"{SERVER}-droplet"
    )
    distribution, release = RELEASES[image]
    now = str(question.outputs.values["gitlab_version"])
    packages = fetch(index_of(f"{url}/{distribution}/{release}", release), question.outputs.ca_certificate)
    known = versions_in(packages, "gitlab-ce")
    # Only those that an update would accept: an upgrade stops on its way where GitLab requires it.
    yield "GitLab", now, _newest(now, [one for one in known if not upgrade_errors(now, one)])


def _newer_runners(question: Question) -> Iterator[tuple[str, str, str]]:
    seen = set()
    for step in question.state.resources:
        given = str(step.values.get("stdin"))
        if not (found := re.search(r"^RUNNER_VERSION=(\S+)$", given, re.MULTILINE)):
            continue
        distribution, release = _distribution(question.state, step.name.replace("-preparation", "-droplet"))
        url = _setting(question.state, step.name, "RUNNER_PACKAGES_URL")
        now = found[1]
        if (now, url, release) in seen:
            continue
        seen.add((now, url, release))
        packages = fetch(index_of(f"{url}/{distribution}", release), question.outputs.ca_certificate)
        known = versions_in(packages, "gitlab-runner")
        yield "GitLab Runner", now, _newest(now, known)


def _newest(now: str, known: Iterable[str]) -> str:
    """The newest of the known versions, if it is newer than `now`; else nothing."""
    newest = max(known, key=parts_of, default=now)
    return newest if parts_of(newest) > parts_of(now) else ""


def _distribution(state: StackState, droplet: str) -> tuple[str, str]:
    """The distribution and release that a machine was created from."""
    image = next((str(one.values.get("image")) for one in state.of("Droplet") if one.name == droplet), "")
    if image not in RELEASES:
        raise CheckError(f"the state does not say what {droplet} was created from")
    return RELEASES[image]


def _setting(state: StackState, step: str, name: str) -> str:
    """A value that a step was given."""
    given = next((str(one.values.get("stdin")) for one in state.resources if one.name == step), "")
    if not (found := re.search(rf"^{name}=(\S+)$", given, re.MULTILINE)):
        raise CheckError(f"the step {step} is not in the state")
    return found[1]
