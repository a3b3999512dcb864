"""GitLab in a browser: its address, the user to sign in as, and whether this machine trusts its certificate."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Iterator

from components.trust import trust as machine_trust
from tools.clients import Outputs, outputs_of
from tools.verify import certificate_of


def browse(stack: str | None, *, show_password: bool) -> None:
    """Print what is needed to sign in, and open the sign-in page if there is a desktop.

    Raises:
        ToolError: Pulumi cannot read the stack, or it was never deployed.
    """
    outputs = outputs_of(stack)
    print("\n".join(["", f"  GitLab is at  {outputs.url}", "", *credentials(outputs, show_password=show_password), ""]))
    print(f"  {trust(outputs)}\n", flush=True)
    if has_desktop():
        webbrowser.open(outputs.url)


def credentials(outputs: Outputs, *, show_password: bool) -> Iterator[str]:
    """Whom to sign in as. The password only on request: terminals keep what they have shown."""
    yield f"  user          {outputs.user}"
    shown = (
        f"{outputs.password}  (unless it was changed in GitLab)" if show_password else "make open PASSWORD=1 shows it"
    )
    yield f"  password      {shown}"


def trust(outputs: Outputs) -> str:
    """What a browser on this machine will say about the certificate."""
    try:
        certificate = certificate_of(outputs.host, 443, machine_trust(), 10)
    except OSError as error:
        return (
            f"This machine does not accept its certificate, or does not reach it ({error}), and browsers will warn as "
            "well. With certificate.caCertificate or certificate.acmeStaging, add that authority to the browser first: "
            "pulumi stack output ca_certificate prints it."
        )
    return f"Its certificate is trusted here: {certificate}."


def has_desktop() -> bool:
    """Whether a browser can appear on this machine; one for terminals would take this one over."""
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
