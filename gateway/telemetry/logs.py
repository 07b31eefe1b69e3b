"""Log lines as text or JSON: one past-tense event, its facts as fields.

Never logs inputs or outputs; control characters are escaped.
"""

from __future__ import annotations

import json
import logging
import math
import sys
from datetime import UTC, datetime
from typing import Literal

_PLAIN_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


def configure_logging(log_format: Literal["text", "json"], *, level: int = logging.INFO, replica: str = "") -> None:
    """Send every log record of the process to stderr in one format.

    Args:
        replica: A fact of every record where several processes write to one stderr.
    """
    handler = logging.StreamHandler(sys.stderr)

    def name_replica(record: logging.LogRecord) -> bool:
        vars(record).setdefault("replica", replica)
        return True

    if replica:
        handler.addFilter(name_replica)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


def _facts(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _PLAIN_FIELDS}


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Render time, level, logger, event and facts."""
        line: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        line |= _facts(record)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        finite = {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in line.items()}
        return json.dumps(finite, default=str)  # all ASCII: a file's name need not be text, nor printable


class TextFormatter(logging.Formatter):
    """One readable line, facts as name=value."""

    def format(self, record: logging.LogRecord) -> str:
        """Render time, level, event and facts, control characters escaped."""
        facts = "".join(f" {name}={value}" for name, value in _facts(record).items())
        line = f"{_time(record)} {record.levelname.lower():7} {record.getMessage()}{facts}"
        lines = [line, *(self.formatException(record.exc_info).split("\n") if record.exc_info else ())]
        return "\n".join(map(_escaped, lines))


def _escaped(line: str) -> str:
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in line)
