"""The provider of the package: the SDK's own, with errors of users in the place of tracebacks."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pulumi
from pulumi.provider import ConstructResult
from pulumi.provider.experimental.analyzer import ComponentDefinition
from pulumi.provider.experimental.component import ComponentProvider
from pulumi.provider.server import ComponentInitError
from typing_extensions import override

from components.settings import Settings, SettingsError
from package.arguments import descriptions_of, type_name


class Provider(ComponentProvider):
    """Constructs components, and reports what is wrong with their arguments.

    `schema` is the SDK's, with the descriptions of the settings.
    """

    @override
    def __init__(self, components: list[type[pulumi.ComponentResource]], name: str) -> None:
        """Read the schema from the types of the `components`."""
        super().__init__(components, name)
        schema = json.loads(self.schema or "{}")
        places = {type_name(Settings): schema["resources"][f"{name}:index:Slipway"]["inputProperties"]}
        places |= {key.rpartition(":")[2]: one["properties"] for key, one in schema["types"].items()}
        for section, descriptions in descriptions_of(Settings):
            for key, properties in places.get(section, {}).items():
                properties["description"] = descriptions[key]
        self.schema = json.dumps(schema)

    @override
    def map_inputs(self, inputs: pulumi.Inputs, component_def: ComponentDefinition) -> pulumi.Inputs:
        """Leave the arguments of `Slipway` as they are: the SDK would drop those that are misspelt."""
        if component_def.name == "Slipway":
            return inputs
        return super().map_inputs(inputs, component_def)

    @override
    def construct(
        self, name: str, resource_type: str, inputs: Any, options: pulumi.ResourceOptions | None = None
    ) -> ConstructResult:
        """Construct one component.

        Raises:
            pulumi.InputPropertiesError: its arguments cannot be used. The SDK would show where that was raised instead.
        """
        _widen_executor()
        try:
            return super().construct(name, resource_type, inputs, options)
        except ComponentInitError as error:
            if isinstance(error.inner, pulumi.InputPropertiesError):
                raise error.inner from None
            if isinstance(error.inner, SettingsError):
                # Errors of single properties are printed with the values, which may be secrets in plain text.
                raise pulumi.InputPropertiesError(str(error.inner), []) from None
            raise


def _widen_executor() -> None:
    """Give the event loop more threads than resources that can wait in them.

    Every registration waits in a thread of its own until the engine has answered, and the engine waits for hooks, which
    need a thread, too. Programs get as many from their language host, but the SDK's server of components does not.
    """
    parallel = max(pulumi.runtime.settings.SETTINGS.parallel or 1, 1)
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(max_workers=parallel * 4))
