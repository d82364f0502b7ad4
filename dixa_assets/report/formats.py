"""Numbers, days and names as people read them."""

from datetime import date

SECONDS = {"milliseconds": 0.001, "seconds": 1.0, "minutes": 60.0, "hours": 3600.0}
# Numbers of these units have it as a suffix.
SUFFIXES = {"percent": "%", "hours worked": " h"}
INITIALS = {"csat", "nps", "sla", "id", "ai"}


def shown(value: float | None, unit: str) -> str:
    """Format a number of a unit: `1,204`, `87.5%`, `5 min 12 s`; `–` if there is none."""
    if value is None:
        return "–"
    if unit in SECONDS:
        return duration(value * SECONDS[unit])
    places = {"percent": 1, "hours worked": 0}.get(unit, 2)
    text = f"{value:,.{places}f}" if abs(value) >= 1 or not value else f"{value:.3g}"
    text = text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text
    return text + SUFFIXES.get(unit, "")


def duration(seconds: float) -> str:
    """Format seconds as `42 s`, `5 min 12 s`, `3 h 05 min` or `3 h`."""
    sign, whole = "-" if seconds < 0 else "", round(abs(seconds))
    if whole < 60:
        return f"{sign}{round(abs(seconds), 1):g} s"
    small, units = (1, ("min", "s")) if whole < 3600 else (60, ("h", "min"))
    big, rest = divmod(round(whole / small), 60)
    return f"{sign}{big:,} {units[0]}" + (f" {rest:02} {units[1]}" if rest else "")


def brief(value: float | None, unit: str) -> str:
    """Format a number for a summary, rounded: `21 min`, `1,204`."""
    if value is None or unit not in SECONDS:
        return shown(value if value is None or unit == "percent" else round(value), unit)
    seconds = value * SECONDS[unit]
    step = 1 if abs(seconds) < 120 else 60 if abs(seconds) < 36000 else 3600
    return duration(round(seconds / step) * step)


def size(change: float, unit: str) -> str:
    """Format a difference without its sign: percentages differ by points."""
    if unit != "percent":
        return brief(abs(change), unit)
    return f"{abs(change):.1f} points" if abs(change) >= 0.05 else "less than 0.1 points"


def signed(change: float, unit: str) -> str:
    """Format a difference with its sign: `+0.8`, `−5 min`."""
    text = f"{abs(change):.1f}" if unit == "percent" else brief(abs(change), unit)
    return ("−" if change < 0 else "+") + text


def human(id_: str) -> str:
    """The id of a metric or record as words: `First response time`, `CSAT`."""
    words = [word.upper() if word in INITIALS else word for word in id_.split("_") if word]
    text = " ".join(words) or id_
    return text[:1].upper() + text[1:]


def day_name(day: date) -> str:
    """A day as `Sun 9 Nov 2025`."""
    return f"{day:%a} {day.day} {day:%b %Y}"


def ago(seconds: float) -> str:
    """How long ago something was: `7 h ago`, `3 days ago`."""
    hours = max(seconds, 0) / 3600
    if hours < 1:
        return "under 1 h ago"
    return f"{hours:.0f} h ago" if hours < 48 else f"{hours / 24:.0f} days ago"
