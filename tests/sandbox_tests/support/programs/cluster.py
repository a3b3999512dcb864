"""A Kubernetes cluster in a network of its own, with a second pool. `most` is the size that the pool may grow to."""

import pulumi
import pulumi_digitalocean as do

config = pulumi.Config()
provider = do.Provider("account", token=config.require_secret("token"), api_endpoint=config.require("endpoint"))
here = pulumi.ResourceOptions(provider=provider)
versions = do.get_kubernetes_versions(version_prefix="1.36.", opts=pulumi.InvokeOptions(provider=provider))
vpc = do.Vpc("vpc", region="fra1", ip_range="10.20.0.0/20", opts=here)
cluster = do.KubernetesCluster(
    "cluster",
    region="fra1",
    version=versions.latest_version,
    vpc_uuid=vpc.id,
    ha=False,
    node_pool=do.KubernetesClusterNodePoolArgs(name="base", size="s-2vcpu-4gb", node_count=1),
    destroy_all_associated_resources=True,
    opts=here,
)
pool = do.KubernetesNodePool(
    "jobs",
    cluster_id=cluster.id,
    size="s-2vcpu-4gb",
    auto_scale=True,
    min_nodes=0,
    max_nodes=config.require_int("most"),
    labels={"for": "jobs"},
    taints=[do.KubernetesNodePoolTaintArgs(key="jobs", value="true", effect="NoSchedule")],
    opts=here,
)
pulumi.export("endpoint", cluster.endpoint)
pulumi.export("kubeconfig", cluster.kube_configs[0].raw_config)
