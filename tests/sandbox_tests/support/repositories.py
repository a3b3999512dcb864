"""Repositories of other kinds than the sample, with the settings, Dockerfiles and commands of the recipe."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from components.build_pipeline import pipeline_of
from components.settings import Builder, ProjectSettings, SupplyChain
from tests.sandbox_tests.support.buildah import Workshop
from tests.sandbox_tests.support.official_images import MANIFEST

SOURCES = yaml.safe_load(Path(__file__).with_name("repositories.yaml").read_text(encoding="utf-8"))
RECIPE = (Path(__file__).parents[3] / "docs/recipes/your-own-repository.md").read_text(encoding="utf-8")
#: Where a repository has its Dockerfiles, in the order of the recipe.
DOCKERFILES = {"shop": ["api/Dockerfile", "web/Dockerfile"]}
BASES = {"greeter": ["python"], "clock": ["golang"], "site": ["nginx"], "shop": ["python", "nginx"]}
INDEXES = "application/vnd.docker.distribution.manifest.list.v2+json"
AUTHOR = {f"GIT_{who}_{what}": "a@example.test" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", RECIPE, re.DOTALL | re.MULTILINE)


def chapter(path: str) -> str:
    """The part of the recipe about a kind of repository."""
    [found] = [part for part in re.split(r"^### ", RECIPE, flags=re.MULTILINE) if f"\npath: {path}\n" in part][:1]
    return found.partition("\n## ")[0]


def settings_of(path: str) -> dict[str, Any]:
    """The settings of its project."""
    text = re.findall(r"^```yaml\n(.*?)^```", chapter(path), re.DOTALL | re.MULTILINE)[0]
    return dict(yaml.safe_load(text))


def files_of(path: str) -> dict[str, str]:
    """What is in it before the first push."""
    dockerfiles = re.findall(r"^```dockerfile\n(.*?)^```", chapter(path), re.DOTALL | re.MULTILINE)
    return {**SOURCES[path]} | dict(zip(DOCKERFILES.get(path, ["Dockerfile"]), dockerfiles, strict=True))


class Repository:
    """A repository of a team, and the project in GitLab that it is pushed to."""

    def __init__(self, path: str, folder: Path, place: Workshop) -> None:
        self.path, self.place, self.folder = path, place, folder / path
        settings = ProjectSettings.model_validate(settings_of(path))
        written = pipeline_of(settings, Builder.BUILDAH, None, None, SupplyChain())
        self.pipeline: dict[str, Any] = yaml.safe_load(written)
        for name, content in files_of(path).items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(content)
        self.remote = folder / "gitlab" / f"{path}.git"
        self._create(folder, written)

    def _create(self, folder: Path, pipeline: str) -> None:
        """What the stack has committed before the first push."""
        new = folder / f"{self.path}-new"
        new.mkdir()
        (new / "README.md").write_text(f"# {self.path}\n")
        (new / ".gitlab-ci.yml").write_text(pipeline)
        self._git(new, "init -q -b main && git add . && git commit -qm 'Add the pipeline'")
        self._git(new, f"clone -q --bare . '{self.remote}'")

    def push(self) -> None:
        """Commit the repository, and type what the recipe says."""
        self._git(self.folder, "init -q -b trunk && git add . && git commit -qm 'Begin'")
        [commands] = [text for text in blocks("sh") if "git push" in text]
        environment = {**os.environ, **AUTHOR, "URL": str(self.remote.with_suffix(""))}
        subprocess.run(["sh", "-euc", commands], cwd=self.folder, env=environment, check=True, capture_output=True)

    def run_pipeline(self) -> dict[str, str]:
        """Run all jobs of the commit that was pushed; returns the log of each."""
        checkout = self.folder.with_name(f"{self.path}-job")
        self._git(self.folder.parent, f"clone -q '{self.remote}' '{checkout}'")
        assert yaml.safe_load((checkout / ".gitlab-ci.yml").read_text()) == self.pipeline
        logs = {}
        for number, (name, job) in enumerate((key, one) for key, one in self.pipeline.items() if "script" in one):
            variables = {
                "CI": "true",
                "CI_REGISTRY_IMAGE": self.image,
                "CI_COMMIT_SHA": "1" * 40,
                "CI_COMMIT_SHORT_SHA": "1" * 8,
                "CI_COMMIT_REF_SLUG": "main",
                "CI_COMMIT_REF_NAME": "main",
                "CI_COMMIT_REF_PROTECTED": "true",
                "CI_COMMIT_BRANCH": "main",
                "CI_DEFAULT_BRANCH": "main",
                "CI_JOB_ID": str(number),
            }
            ran = self.place.run(job["script"], checkout, "machine", **variables)
            assert ran.returncode == 0, f"{name}:\n{ran.stdout}{ran.stderr}"
            logs[name] = ran.stdout + ran.stderr
        return logs

    @property
    def image(self) -> str:
        """The repository of its images in the registry."""
        return f"{self.place.host}/root/{self.path}"

    def manifest(self, name: str = "") -> dict[str, Any]:
        """The index that was released as `latest`."""
        answer = self.place.registry.get(f"root/{self.path}{name}/manifests/latest", headers={"Accept": INDEXES})
        return dict(answer.raise_for_status().json())

    def content(self, reference: str, accept: str = MANIFEST) -> bytes:
        """A blob or manifest of its image."""
        return (
            self.place.registry.get(f"root/{self.path}/{reference}", headers={"Accept": accept})
            .raise_for_status()
            .content
        )

    def _git(self, folder: Path, words: str) -> None:
        subprocess.run(["sh", "-ec", f"git {words}"], cwd=folder, env={**os.environ, **AUTHOR}, check=True)
