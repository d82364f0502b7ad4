"""Post one line to a Slack-compatible webhook when a run has failed.

The address is a secret: no message contains it.
"""

import json
import urllib.error
import urllib.request

from dixa_assets.errors import AlertNotSent, ConfigError

SECONDS = 10.0


def post_alert(webhook: str, text: str) -> str:
    """Send a line and return the result in words.

    Raises:
        ConfigError: The webhook is not an https address. Only this machine may use http.
        AlertNotSent: The webhook cannot be reached, or rejects the line.
    """
    local = webhook.startswith(("http://127.0.0.1", "http://localhost"))
    if not (webhook.startswith("https://") or local):
        raise ConfigError("DIXA_ALERT_WEBHOOK", "is not an address that begins with https://.")
    request = urllib.request.Request(  # noqa: S310
        webhook,
        data=json.dumps({"text": text}).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as response:  # noqa: S310
            return f"the webhook accepted it ({response.status})"
    except urllib.error.HTTPError as error:
        problem = f"it rejected the line ({error.code} {error.reason})."
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        problem = f"it could not be reached ({reason})."
    raise AlertNotSent(f"the webhook in DIXA_ALERT_WEBHOOK did not receive the alert: {problem}")
