"""The provider of the package: the SDK's own, with errors of users in the place of tracebacks."""

from typing import Any

import pulumi
from pulumi.provider import ConstructResult
from pulumi.provider.experimental.component import ComponentProvider
from pulumi.provider.server import ComponentInitError
from typing_extensions import override


class Provider(ComponentProvider):
    """Constructs components, and reports what is wrong with their arguments."""

    @override
    def construct(
        self, name: str, resource_type: str, inputs: Any, options: pulumi.ResourceOptions | None = None
    ) -> ConstructResult:
        """Construct one component.

        Raises:
            pulumi.InputPropertiesError: its arguments cannot be used. The SDK would show where that was raised instead.
        """
        try:
            return super().construct(name, resource_type, inputs, options)
        except ComponentInitError as error:
            if isinstance(error.inner, pulumi.InputPropertiesError):
                raise error.inner from None
            raise
