"""The way to one cluster: a client that is made when the first request is."""

from __future__ import annotations

import json
import threading
from typing import Any

import urllib3
import yaml
from kubernetes import config
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import DynamicApiError

from tests.sandbox.plugins.base.framework import Call, PluginError
from tests.sandbox.plugins.base.properties import Properties, Unknown

#: Who applies, as the official provider calls itself.
MANAGER = "pulumi-kubernetes"
NOT_FOUND, CONFLICT = 404, 409


class Session:
    """Requests to the cluster of a kubeconfig. With `mutable` Secrets and ConfigMaps are changed in place."""

    def __init__(self, settings: Properties) -> None:
        self._kubeconfig = settings.get("kubeconfig")
        self.namespace = settings.get("namespace") or "default"
        self.mutable = {
            "Secret": settings.get("enableSecretMutable") is True,
            "ConfigMap": settings.get("enableConfigMapMutable") is True,
        }
        self._client: DynamicClient | None = None
        self._lock = threading.Lock()

    def get(self, version: str, kind: str, name: str, namespace: str | None) -> Any | None:
        """An object as the cluster has it; None if it has none."""
        try:
            return self._kind(version, kind).get(name=name, namespace=namespace).to_dict()
        except DynamicApiError as error:
            if error.status == NOT_FOUND:
                return None
            raise _refused(error) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _unreachable(error) from None

    def apply(self, body: Properties, *, new: bool) -> Any:
        """Create an object, or change one that there is."""
        version, kind, metadata = body["apiVersion"], body["kind"], body["metadata"]
        name, namespace = metadata["name"], metadata.get("namespace")
        if new and self.get(version, kind, name, namespace) is not None:
            raise PluginError(
                f'resource "{identifier_of(metadata)}" was not successfully created by the Kubernetes API '
                f'server: {kind.lower()}s "{name}" already exists'
            )
        try:
            made = self._kind(version, kind).server_side_apply(
                body=body, name=name, namespace=namespace, field_manager=MANAGER, force_conflicts=True
            )
        except DynamicApiError as error:
            raise _refused(error) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _unreachable(error) from None
        return made.to_dict()

    def delete(self, version: str, kind: str, name: str, namespace: str | None) -> None:
        """Ask for the end of an object; that there is none is no error."""
        try:
            self._kind(version, kind).delete(name=name, namespace=namespace, body={"propagationPolicy": "Foreground"})
        except DynamicApiError as error:
            if error.status != NOT_FOUND:
                raise _refused(error) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _unreachable(error) from None

    def pods(self, namespace: str, labels: dict[str, str]) -> list[Any]:
        """The pods with some labels."""
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        found = self._kind("v1", "Pod").get(namespace=namespace, label_selector=selector)
        return list(found.to_dict()["items"])

    def _kind(self, version: str, kind: str) -> Any:
        return self._connected().resources.get(api_version=version, kind=kind)

    def _connected(self) -> DynamicClient:
        with self._lock:
            if self._client is None:
                self._client = self._connect()
            return self._client

    def _connect(self) -> DynamicClient:
        if self._kubeconfig is None or isinstance(self._kubeconfig, Unknown):
            raise PluginError(
                "configured Kubernetes cluster is unreachable: unable to load Kubernetes client "
                "configuration from kubeconfig file"
            )
        try:
            read = yaml.safe_load(str(self._kubeconfig))
            return DynamicClient(config.new_client_from_config_dict(read))  # type: ignore[no-untyped-call]
        except (config.ConfigException, yaml.YAMLError) as error:
            raise PluginError(f"configured Kubernetes cluster is unreachable: {error}") from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _unreachable(error) from None
        except ApiException as error:
            raise _unreachable(error) from None


def session_of(call: Call) -> Session:
    """The session of a call."""
    found: Session = call.session
    return found


def identifier_of(metadata: Properties) -> str:
    """`NAMESPACE/NAME`, or `NAME` of what is in no namespace."""
    name = str(metadata["name"])
    return f"{metadata['namespace']}/{name}" if metadata.get("namespace") else name


def _refused(error: DynamicApiError) -> PluginError:
    try:
        reason = str(json.loads(str(error.body))["message"])
    except (TypeError, ValueError, KeyError):
        reason = f"{error.status} {error.reason}"
    return PluginError(f"the Kubernetes API server refuses it: {reason}")


def _unreachable(error: Exception) -> PluginError:
    return PluginError(f"configured Kubernetes cluster is unreachable: {error}")
