"""The section of a runner about its Kubernetes cluster: nodes that come and go with the jobs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field

from components.settings.section import ENVIRONMENT, PROMOTED, Contradiction, Section, WholeNumber, whole_number
from components.settings.strings import SizeSlug, matching

#: DigitalOcean, limits of Kubernetes: nodes of a cluster. The limit of droplets of an account is usually lower.
_MOST_NODES: Final = 50

#: The first release in which a pod as a whole has requests and limits.
_OLDEST: Final = 34


def _promises_to_pods(value: str) -> str:
    if int(value.partition(".")[2]) < _OLDEST:
        message = (
            f"is older than 1.{_OLDEST}, the first release in which a job as a whole can be promised processors and "
            f"memory; jobs would be promised none. Use 1.{_OLDEST} or a newer one, in quotes"
        )
        raise ValueError(message)
    return value


KubernetesVersion = Annotated[
    str,
    AfterValidator(
        matching(
            r"1\.[1-9]\d",
            "is not a minor release of Kubernetes; DigitalOcean would not find it. Use one such as 1.36, in quotes",
        )
    ),
    AfterValidator(_promises_to_pods),
]
Cpu = Annotated[
    str,
    AfterValidator(
        matching(
            r"[1-9]\d{0,1}(\.\d{1,3})?|0\.\d{1,3}|[1-9]\d{1,4}m",
            'is not a number of processors; Kubernetes would reject it. Use one such as "1" or 500m',
        )
    ),
]
Memory = Annotated[
    str,
    AfterValidator(
        matching(
            r"[1-9]\d{0,6}(Mi|Gi)",
            "is not an amount of memory; Kubernetes would reject it. Use one such as 1536Mi or 2Gi",
        )
    ),
]

Days = Annotated[int, Field(ge=1, le=365), BeforeValidator(whole_number)]


class ClusterSettings(Section):
    """A cluster of DigitalOcean Kubernetes that runs the jobs of one runner, and nothing else."""

    model_config = ConfigDict(json_schema_extra={**PROMOTED})

    version: KubernetesVersion | None = Field(
        default=None,
        description="The minor release of Kubernetes, 1.34 or newer; DigitalOcean installs its patches. It can be "
        "raised, one release at a time, and not lowered.",
        examples=["1.36"],
        json_schema_extra={"unset": "the newest one when the cluster is created; afterwards, the one that it has"},
    )
    min_nodes: WholeNumber = Field(
        default=0,
        ge=0,
        le=_MOST_NODES,
        description="How many nodes for jobs there are at least. With 0, the first job after a pause waits for a node.",
        json_schema_extra={**ENVIRONMENT, "unit": "nodes"},
    )
    max_nodes: WholeNumber = Field(
        default=3,
        ge=1,
        le=_MOST_NODES,
        description="How many nodes for jobs there are at most. Jobs that fit on none of them wait.",
        json_schema_extra={**ENVIRONMENT, "unit": "nodes"},
    )
    manager_size: SizeSlug = Field(
        default="s-2vcpu-4gb",
        description="The size slug of the one node that is always there: it runs `gitlab-runner` and what Kubernetes "
        "itself needs, and no jobs.",
        json_schema_extra={**ENVIRONMENT},
    )
    high_availability: bool = Field(
        default=False,
        description="Whether the control plane is replicated, at $40 a month. It cannot be turned off again.",
        json_schema_extra={**ENVIRONMENT},
    )
    job_cpu: Cpu = Field(
        default="500m",
        description="The processors that each job, with its services, is sure to get; it may use those that are idle "
        "as well. It decides how many jobs fit on a node.",
        json_schema_extra={**ENVIRONMENT},
    )
    job_memory: Memory = Field(
        default="1Gi",
        description="The memory that each job gets, with its services. A job that needs more is ended. It decides how "
        "many jobs fit on a node.",
        json_schema_extra={**ENVIRONMENT},
    )

    cache_days: Days | None = Field(
        default=None,
        description="For how many days what `cache:` of a pipeline names is kept, in a Space of the runner's own, in "
        "the stack's region.",
        json_schema_extra={"unset": "it is not kept", "unit": "days"},
    )

    @property
    def millicores(self) -> int:
        """The processors of a job, in thousandths."""
        return int(self.job_cpu[:-1]) if self.job_cpu.endswith("m") else round(float(self.job_cpu) * 1000)

    @property
    def mebibytes(self) -> int:
        """The memory of a job, in MiB."""
        return int(self.job_memory[:-2]) * (1024 if self.job_memory.endswith("Gi") else 1)

    def contradictions(self) -> Iterator[Contradiction]:
        """A range without nodes in it."""
        if self.min_nodes > self.max_nodes:
            message = (
                f"is {self.min_nodes}, more than maxNodes, {self.max_nodes}; DigitalOcean would reject the nodes. "
                "Lower it, or raise maxNodes"
            )
            yield Contradiction(("minNodes", "maxNodes"), message, "minNodes")
