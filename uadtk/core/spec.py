"""A *spec* names a scorer, cleaner, thresholder or model with options in one word: ``residual:polarity=absolute``.

Text becomes a ``Spec`` where it enters (command line, checkpoint header, receipt) and stays one from there on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from uadtk.core.errors import UsageError


@dataclass(frozen=True)
class Spec:
    """A name and the options that were spelled out, as text; whoever builds the object checks and converts them."""

    name: str
    options: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Spec:
        """``name:key=value,key=value``. A list within a value is written with ``/``.

        Raises
        ------
        UsageError
            A part is not ``key=value``, or a key appears twice.
        """
        name, _, rest = text.partition(":")
        options: dict[str, str] = {}
        for part in filter(None, (part.strip() for part in rest.split(","))):
            key, equals, value = part.partition("=")
            key = key.strip().replace("-", "_")
            if not equals:
                raise UsageError(f"'{part}' is not key=value", text, f"Write it like {name}:key=value,key=value.")
            if key in options:
                raise UsageError(f"'{key}' is given twice", text, "Keep one of them.")
            options[key] = value.strip()
        return cls(name.strip(), tuple(options.items()))

    def __str__(self) -> str:
        options = ",".join(f"{key}={value}" for key, value in self.options)
        return f"{self.name}:{options}" if options else self.name

    @property
    def values(self) -> dict[str, str]:
        return dict(self.options)

    def having(self, **values: Any) -> Spec:
        """The same with these options set, in place or at the end."""
        return Spec(self.name, tuple({**self.values, **{key: str(value) for key, value in values.items()}}.items()))


def parse_all(texts: tuple[str, ...] | list[str]) -> tuple[Spec, ...]:
    return tuple(Spec.parse(text) for text in texts)
