"""The fixed lists of the simulated support centre: agents, queues, tags, channels, articles.

Events do not belong here; `timeline` creates them.
"""

from uuid import NAMESPACE_URL, uuid5
from zoneinfo import ZoneInfo

from dixa_assets.simulator.values import Choice, Named

HOME = ZoneInfo("Europe/Copenhagen")


def _named(kind: str, labels: str) -> tuple[Named, ...]:
    return tuple(
        Named(str(uuid5(NAMESPACE_URL, f"{kind}/{label}")), label) for label in labels.split(", ")
    )


AGENTS = _named(
    "agent",
    'Søren "Sam" O\'Neil & Co, Ane Lindqvist, Bruno Okafor, Camille Rey, Dilan Yıldız, '
    "Eva Horváth, Freja Holm, Goran Kostić, Hana Sato, Ines Duarte, Jonas Falk, Karim Haddad",
)
QUEUES = _named("queue", "Orders, Returns & refunds, Billing, Technical help, VIP, Overflow")
TAGS = _named(
    "tag",
    "late delivery, damaged, refund, invoice, login, praise, complaint, B2B, størrelse/size, bug",
)
ARTICLES = _named(
    "article",
    "Track your parcel, Return a purchase, Reset a password, Read your invoice, Size guide",
)

EMAIL = Choice("EMAIL", "Email")
CHAT = Choice("CHAT", "Chat")
PHONE = Choice("PSTN_PHONE", "Phone")
CALLBACK = Choice("CALLBACK", "Callback")
CONTACT_FORM = Choice("CONTACT_FORM", "Contact Form")
CHANNELS = (CALLBACK, CHAT, CONTACT_FORM, EMAIL, PHONE)
CHANNEL_WEIGHTS = (6, 22, 10, 42, 20)
# Typical seconds until an agent accepts the conversation.
TYPICAL_WAIT = {CALLBACK: 600.0, CHAT: 60.0, CONTACT_FORM: 2400.0, EMAIL: 1800.0, PHONE: 40.0}

INBOUND = Choice("INBOUND", "Inbound")
OUTBOUND = Choice("OUTBOUND", "Outbound")

ADDRESSES = ("support@example.com", "orders@example.com", "vip@example.com")
NUMBERS = ("+4570000001", "+4570000002")

WORKING = Choice("WORKING", "Working")
AWAY = Choice("AWAY", "Away")
BREAK = Choice("ON_BREAK", "On break")
PRESENCES = (WORKING, AWAY, BREAK)


def filter_values(attribute: str, agents: tuple[Named, ...] = AGENTS) -> tuple[Choice, ...] | None:
    """The values of a filter attribute; None if there is no such attribute."""
    match attribute:
        case "agent_id" | "queue_id" | "tag_id":
            named = {"agent_id": agents, "queue_id": QUEUES, "tag_id": TAGS}[attribute]
            return tuple(Choice(item.id, item.label) for item in named)
        case "channel":
            return CHANNELS
        case "initial_direction":
            return (INBOUND, OUTBOUND)
        case "contact_point":
            return tuple(Choice(point, point) for point in ADDRESSES + NUMBERS)
        case "presence_status":
            return PRESENCES
    return None
