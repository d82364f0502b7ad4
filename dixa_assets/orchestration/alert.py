"""One line to a chat when a run has failed: Slack's webhooks and whatever speaks like them.

The address is a secret: it is read when it is needed and stands in no message.
"""

import json
import urllib.error
import urllib.request

from dixa_assets.errors import AlertNotSent, ConfigError

SECONDS = 10.0


def post_alert(webhook: str, text: str) -> str:
    """Send a line; in words, what came of it.

    Raises:
        ConfigError: The webhook is no https address; http is taken on this machine only.
        AlertNotSent: The webhook cannot be reached, or refuses the line.
    """
    local = webhook.startswith(("http://127.0.0.1", "http://localhost"))
    if not (webhook.startswith("https://") or local):
        raise ConfigError("DIXA_ALERT_WEBHOOK", "is no address that begins with https://.")
    request = urllib.request.Request(  # noqa: S310
        webhook,
        data=json.dumps({"text": text}).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as response:  # noqa: S310
            return f"the webhook took it ({response.status})"
    except urllib.error.HTTPError as error:
        problem = f"it refused the line ({error.code} {error.reason})."
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        problem = f"it could not be reached ({reason})."
    raise AlertNotSent(f"the webhook in DIXA_ALERT_WEBHOOK was not told: {problem}")
