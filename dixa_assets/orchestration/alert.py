"""Post one line to a Slack-compatible webhook when a run has failed.

The address is a secret: no message contains it.
"""

import html
import json
import os
from http.client import HTTPException
from urllib import request as web

from dixa_assets.api.addresses import is_loopback, web_address
from dixa_assets.errors import AlertNotSent, ConfigError, printable

WEBHOOK = "DIXA_ALERT_WEBHOOK"
SECONDS = 10.0


def alert_webhook() -> str:
    """The webhook for failed runs; empty if none is set. `ConfigError` if it is no address."""
    webhook = os.environ.get(WEBHOOK, "")
    return _checked(webhook) if webhook else ""


def post_alert(webhook: str, text: str) -> str:
    """Send a line, which Slack shows as it is, and return the result in words.

    Raises:
        ConfigError: The webhook is not an https address. Only this machine may use http.
        AlertNotSent: The webhook cannot be reached, or rejects the line.
    """
    request = web.Request(  # noqa: S310
        _checked(webhook),
        data=json.dumps({"text": html.escape(printable(text), quote=False)}).encode(),
        headers={"Content-Type": "application/json"},
    )
    # Without the usual handlers, no redirect is followed. A proxy would see http in clear.
    opener = web.OpenerDirector()
    https = {name: url for name, url in web.getproxies().items() if name == "https"}
    for handler in (web.ProxyHandler(https), web.HTTPHandler(), web.HTTPSHandler()):
        opener.add_handler(handler)
    try:
        with opener.open(request, timeout=SECONDS) as response:
            answer = f"{response.status} {printable(response.reason)[:100]}"
            if response.status < 300:
                return f"the webhook accepted it ({answer})"
            problem = f"it rejected the line ({answer})."
    except (OSError, ValueError, HTTPException) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        problem = f"it could not be reached ({printable(str(reason))[:200]})."
    raise AlertNotSent(f"the webhook in {WEBHOOK} did not receive the alert: {problem}")


def _checked(webhook: str) -> str:
    parts = web_address(WEBHOOK, webhook)
    if parts.scheme != "https" and not is_loopback(parts.hostname):
        raise ConfigError(WEBHOOK, "is not an address that begins with https://.")
    return webhook
