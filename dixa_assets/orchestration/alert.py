"""Post one line to a Slack-compatible webhook when a run has failed.

The address is a secret: no message contains it.
"""

import html
import json
import os
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any

from dixa_assets.api.connections import is_loopback, web_address
from dixa_assets.errors import AlertNotSent, ConfigError
from dixa_assets.model.values import printable

WEBHOOK = "DIXA_ALERT_WEBHOOK"
SECONDS = 10.0


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Treats a redirect as an error: the line is for the host in the setting only."""

    def redirect_request(self, *_: Any) -> None:
        return None


def alert_webhook() -> str:
    """The webhook for failed runs; empty if none is set. `ConfigError` if it is no address."""
    if webhook := os.environ.get(WEBHOOK, ""):
        _is_local(webhook)
    return webhook


def post_alert(webhook: str, text: str) -> str:
    """Send a line, which Slack shows as it is, and return the result in words.

    Raises:
        ConfigError: The webhook is not an https address. Only this machine may use http.
        AlertNotSent: The webhook cannot be reached, or rejects the line.
    """
    # For this machine, a proxy would get the secret in clear.
    proxies = [urllib.request.ProxyHandler({})] if _is_local(webhook) else []
    request = urllib.request.Request(  # noqa: S310
        webhook,
        data=json.dumps({"text": html.escape(text, quote=False)}).encode(),
        headers={"Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(_NoRedirect(), *proxies)
    try:
        with opener.open(request, timeout=SECONDS) as response:
            return f"the webhook accepted it ({response.status})"
    except urllib.error.HTTPError as error:
        problem = f"it rejected the line ({error.code} {printable(error.reason)[:100]})."
    except (OSError, ValueError, HTTPException) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        problem = f"it could not be reached ({printable(str(reason))[:200]})."
    raise AlertNotSent(f"the webhook in {WEBHOOK} did not receive the alert: {problem}")


def _is_local(webhook: str) -> bool:
    parts = web_address(WEBHOOK, webhook)
    local = is_loopback(parts.hostname)
    if parts.scheme != "https" and not local:
        raise ConfigError(WEBHOOK, "is not an address that begins with https://.")
    return local
