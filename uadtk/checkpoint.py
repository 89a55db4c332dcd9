"""A checkpoint is one ``.safetensors`` file: weights, and in its header, as JSON, how to use them.

Header key ``uadtk``::

    {"format": 2,
     "model": {"name", "options", "dist", "version"},
     "preparation": {...}, "scorer": "residual", "cleaners": ["erode:iterations=3", ...],
     "training": {...}, "points": [{operating point}, ...], "weights_sha256": "..."}

and ``uadtk_sha256``, the checksum of that JSON text.

Nothing is pickled, and the header can be read without torch. Operating points live beside the weights: adding one
rewrites the header and copies the weights byte for byte.

**The promise.** A checkpoint that a released uadtk has saved can be loaded by every later one, with the same weights,
options, preparation, scorer, cleaners and operating points; so it gives the same scores and the same mask. When the
header changes in a way that older code would misread, ``FORMAT`` rises by one and ``_UPGRADES`` gains a function that
turns a header of the previous format into one of the new. Older files are upgraded in memory when they are loaded, and
written in the present format when they are saved. ``tests/golden`` holds a file of every format. A file of a newer
format is refused with the advice to update uadtk.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uadtk import registry
from uadtk.core import options as opts
from uadtk.core import schema
from uadtk.core.absent import refuse_special, why
from uadtk.core.errors import CheckpointError, DataError, PluginError, UadtkError, UsageError, did_you_mean
from uadtk.core.model import capabilities, default_scorer, traits
from uadtk.core.preparation import Preparation
from uadtk.core.spec import Spec, parse_all
from uadtk.core.thresholder import OperatingPoint, named_point
from uadtk.io.write import write_bytes

if TYPE_CHECKING:
    from torch import Tensor, nn

FORMAT = 2
# options of scorers whose defaults have changed since format 1, as they were
_FORMAT_1_DEFAULTS = {"gradient": {"form": "paper", "polarity": "absolute"}, "restoration": {"tv": "2.2"}}


def _with_old_defaults(header: dict[str, Any]) -> dict[str, Any]:
    """Format 1 to 2: scorers left at defaults that have changed since, in the checkpoint and its points, keep them."""

    def spelled_out(holder: dict[str, Any]) -> dict[str, Any]:
        spec = Spec.parse(holder["scorer"])
        return {**holder, "scorer": str(spec.having(**{**_FORMAT_1_DEFAULTS.get(spec.name, {}), **spec.values}))}

    return {**spelled_out(header), "points": [spelled_out(point) for point in header["points"]]}


# format n -> the function that turns a header of format n into one of format n + 1, for every released n below FORMAT
_UPGRADES: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _with_old_defaults}
SUFFIX = ".safetensors"
AGAIN = "Copy or download it again."
_DIST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,100}[A-Za-z0-9])?")  # of packages (PEP 508)
STATISTICS = "statistics"  # key of the training facts: what the training scans are like, for the gate
FOLDS = "folds"  # another: what each member of an ensemble has not seen


@dataclass(frozen=True)
class Checkpoint:
    """A model with everything that is needed to use it the way it was trained.

    ``weights`` are the tensors by name, as safetensors bytes without metadata; ``digest`` names weights, model and
    preparation together (operating points may be added without changing it).
    """

    model: str
    options: dict[str, Any]
    preparation: Preparation
    scorer: Spec
    cleaners: tuple[Spec, ...]
    dist: str
    version: str
    training: dict[str, Any] = field(default_factory=dict)
    points: tuple[OperatingPoint, ...] = ()
    weights: bytes = field(default=b"", repr=False)
    source: str = ""

    @property
    def digest(self) -> str:
        facts = {"model": self.model, "options": self.options, "preparation": self.preparation.identity()}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode() + self.weights).hexdigest()

    @property
    def statistics(self) -> dict[str, Any]:
        """What the training scans are like, as ``uadtk.preparation.gate.statistics_of`` makes it; empty if unknown."""
        return dict(self.training.get(STATISTICS, {}))

    @property
    def usual_point(self) -> str:
        """The name of the operating point that is used unless another is named; empty if there is none."""
        names = [point.name for point in self.points]
        return names[0] if len(names) == 1 else next((name for name in ("default", "p98") if name in names), "")

    def point(self, name: str | None) -> OperatingPoint:
        """The operating point of that name; None: the only one, or ``default`` or ``p98`` if there are several."""
        names = [point.name for point in self.points]
        found = named_point(self.points, name or self.usual_point)
        if found is not None:
            return found
        if not names:
            source = self.source or self.model
            target = "" if source.endswith(SUFFIX) else f" -o {self.model}{SUFFIX}, then --model {self.model}{SUFFIX}"
            fix = f"Make one: uadtk threshold --strategy p98 --model {source} --healthy cohort.tsv{target}."
            raise UsageError("has no operating point", source, fix)
        what = f"no operating point '{name}'" if name else "has several operating points"
        raise UsageError(what, self.source or self.model, f"--point: {did_you_mean(name or '', names)}")

    def with_point(self, point: OperatingPoint) -> Checkpoint:
        """The same with ``point`` added, in place of one of that name."""
        return replace(self, points=(*(p for p in self.points if p.name != point.name), point))

    def build(self, device: str = "cpu") -> nn.Module:
        """The model with its weights, in ``eval`` mode.

        Raises
        ------
        CheckpointError
            The options or the weights do not fit the model.
        PluginError
            The model belongs to a plugin that is not installed or does not load.
        """
        import torch
        from safetensors.torch import load

        from uadtk.networks.seeded import seeded

        try:
            with seeded(0):  # weights that are replaced at once must not move torch's generator
                model = self.new_model()
        except (MemoryError, RuntimeError, ValueError) as error:  # a network that no machine can hold
            first = " ".join(str(error).split())[:160]
            what = f"model '{self.model}' cannot be made with its options ({first or 'no memory'})"
            raise CheckpointError(what, self.source) from None
        except UsageError as error:  # the options come from the checkpoint, not from the command line
            what = f"model '{self.model}' does not take its options ({error.one_line().rstrip('.')})"
            raise CheckpointError(what, self.source, f"It was made with {self.dist} {self.version}.") from None
        try:
            tensors = load(self.weights) if self.weights else {}
            if wrong := next((name for name, t in tensors.items() if not torch.isfinite(t).all()), None):
                raise ValueError(f"{wrong} holds NaN or infinite values")
            model.load_state_dict(tensors)
        except Exception as error:  # safetensors and torch raise several kinds
            first = " ".join(str(error).split())[:160]
            raise CheckpointError(f"the weights do not fit model '{self.model}' ({first})", self.source) from None
        built: nn.Module = model.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)
        return built

    def new_model(self) -> Any:
        """The model with fresh weights (torch's global generator decides them)."""
        try:
            cls = registry.load("models", self.model if self.dist == registry.OWN else f"{self.dist}/{self.model}")
        except UsageError:
            # Never a command made of text from a file: it would be pasted into a shell.
            fix = "Install it from a source that you trust."
            known = _DIST.fullmatch(self.dist)
            whose = f" of the package '{self.dist}'" if known else ""
            what = f"needs model '{self.model}'{whose}, which is not installed"
            raise PluginError(what, self.source, fix) from None
        return cls(opts.build(cls.Options, self.options, self.model), self.preparation.pixels)

    def method(self) -> dict[str, Any]:
        """Model, preparation, scorer and cleaners with their options, as the header has them."""
        return {
            "model": {"name": self.model, "options": self.options, "dist": self.dist, "version": self.version},
            "preparation": opts.as_dict(self.preparation),
            "scorer": str(self.scorer),
            "cleaners": [str(spec) for spec in self.cleaners],
        }

    def header(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            **self.method(),
            "training": self.training,
            "points": [point.to_json() for point in self.points],
            "weights_sha256": hashlib.sha256(self.weights).hexdigest(),
        }

    def save(self, path: Path) -> None:
        """Write atomically."""
        tensors, data = _split(self.weights) if self.weights else ({}, b"")
        header = json.dumps(self.header(), sort_keys=True)
        tensors["__metadata__"] = {"uadtk": header, "uadtk_sha256": hashlib.sha256(header.encode()).hexdigest()}
        write_bytes(path, _join(tensors, data), named=True)


def new(
    model: str,
    options: dict[str, Any],
    preparation: Preparation,
    scorer: Spec | None = None,
    cleaners: tuple[Spec, ...] | None = None,
) -> Checkpoint:
    """A checkpoint without weights; options are checked and completed by their defaults.

    Raises
    ------
    UsageError
        No such model, scorer or cleaner, or not such an option of it; now, and not when the training is done.
    """
    registered = registry.find("models", model)
    cls = registry.load("models", model)
    scorer = scorer or Spec.parse(default_scorer(cls))
    cleaners = parse_all(traits(cls).cleaners) if cleaners is None else cleaners
    registry.options_of("scorers", scorer)
    for cleaner in cleaners:
        registry.options_of("cleaners", cleaner)
    return Checkpoint(
        model=registered.entry.name,
        options=opts.as_dict(opts.build(cls.Options, options, model)),
        preparation=preparation,
        scorer=scorer,
        cleaners=cleaners,
        dist=registered.dist,
        version=registered.version,
        source=model,
    )


def pack(model: nn.Module) -> bytes:
    """The weights of a model as safetensors bytes."""
    return pack_tensors({name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()})


def pack_tensors(tensors: dict[str, Tensor]) -> bytes:
    from safetensors.torch import save

    return _join(*_split(save(tensors))) if tensors else b""  # one way to write the header, so that bytes compare


def open_checkpoint(name_or_path: str) -> Checkpoint:
    """A checkpoint file, a checkpoint of uadtk or of a plugin by name, or a model that needs no training by name.

    Raises
    ------
    CheckpointError
        Not a checkpoint, damaged, or of a newer format.
    UsageError
        Nothing of that name.
    """
    if name_or_path.endswith(SUFFIX):
        return load(Path(name_or_path))
    if about := registry.own_weights().get(name_or_path) or registry.weights().get(name_or_path):
        return replace(load(Path(about["file"])), source=name_or_path)
    spec = Spec.parse(name_or_path)
    name = spec.name
    try:
        registry.find("models", name)
    except UsageError as error:
        if Path(name_or_path).is_file():
            return load(Path(name_or_path))
        known = {*registry.weights(), *(r.entry.name for r in registry.entries("models"))}
        raise UsageError(f"no model '{name}'", fix=did_you_mean(name, known)) from error
    if "training_loss" in capabilities(registry.load("models", name)):
        fix = f"Train it: uadtk train {name} cohort.tsv -o {name}{SUFFIX}, then --model {name}{SUFFIX}."
        raise UsageError("no weights are shipped for this model", name, fix)
    return new(name, spec.values, Preparation())


def open_with(model: str | os.PathLike[str], scorer: str | None, cleaners: Sequence[str] | None) -> Checkpoint:
    """The same with scorer and cleaners replaced where they are given; no cleaner for an empty list."""
    checkpoint = open_checkpoint(os.fspath(model))
    if scorer:
        checkpoint = replace(checkpoint, scorer=Spec.parse(scorer))
    return checkpoint if cleaners is None else replace(checkpoint, cleaners=parse_all(list(cleaners)))


def load(path: Path) -> Checkpoint:
    try:
        refuse_special(path, most=1 << 33)
        raw = path.read_bytes()
    except DataError as error:
        raise CheckpointError(error.what, str(path), error.fix) from None
    except OSError as error:
        raise CheckpointError(f"cannot be read ({why(error)})", str(path), "Check the path.") from None
    tensors, data = _split(raw, str(path))
    header = _header(tensors, str(path))
    tensors.pop("__metadata__")
    weights = _join(tensors, data) if tensors else b""
    if hashlib.sha256(weights).hexdigest() != header.get("weights_sha256"):
        raise CheckpointError("the weights are damaged (checksum differs)", str(path), AGAIN)
    try:
        return Checkpoint(
            model=header["model"]["name"],
            options=header["model"]["options"],
            preparation=opts.build(Preparation, header["preparation"], f"{path}: preparation"),
            scorer=Spec.parse(header["scorer"]),
            cleaners=parse_all(header["cleaners"]),
            dist=header["model"]["dist"],
            version=header["model"]["version"],
            training=header["training"],
            points=tuple(OperatingPoint.from_json(point) for point in header["points"]),
            weights=weights,
            source=str(path),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"its header is incomplete ({error})", str(path)) from None
    except UadtkError as error:
        raise CheckpointError(error.what, error.where or str(path)) from None


def _training(value: Any, name: str) -> None:
    """Facts that are used later: counts of scans, statistics for the gate, folds."""
    schema.mapping(schema.plain)(value, name)
    held = schema.record({"held": schema.items(schema.text(1000), 10**6)})
    numbers, counts = schema.mapping(schema.items(schema.number(), 100, 2)), schema.mapping(schema.number(ge=0))
    statistics = schema.record({}, {"contrasts": counts, "numbers": numbers})
    later = {STATISTICS: statistics, FOLDS: schema.items(held, 100), "scans": counts}
    schema.record({}, later)(value, name)


_HEADER = schema.record(
    {
        "model": schema.record(
            {"name": schema.text(200), "options": schema.mapping(schema.plain)}
            | dict.fromkeys(("dist", "version"), schema.text(200))
        ),
        "preparation": schema.mapping(schema.plain),
        "scorer": schema.text(1000),
        "cleaners": schema.items(schema.text(1000), 100),
        "training": _training,
        "points": schema.items(schema.plain, 1000),
        "weights_sha256": schema.text(64),
    }
)
_TENSORS = schema.mapping(
    schema.record(
        {"data_offsets": schema.items(schema.whole(0, 2**50), 2, 2), "shape": schema.items(schema.whole(0, 2**40), 8)}
    )
)


def _header(tensors: dict[str, Any], where: str) -> dict[str, Any]:
    try:
        header: dict[str, Any] = schema.parse_json(tensors["__metadata__"]["uadtk"])
        made_for = int(header["format"])
    except (KeyError, TypeError, ValueError, OverflowError):
        raise CheckpointError("is a safetensors file but not a uadtk checkpoint", where) from None
    if made_for > FORMAT:
        raise CheckpointError(
            f"is of checkpoint format {made_for}, this uadtk reads up to {FORMAT}",
            where,
            "Update: pip install -U uadtk.",
        )
    stored = tensors["__metadata__"].get("uadtk_sha256")
    if stored is not None and stored != hashlib.sha256(tensors["__metadata__"]["uadtk"].encode()).hexdigest():
        raise CheckpointError("the header is damaged (checksum differs)", where, AGAIN)
    header = _upgraded(header, made_for, where)
    try:
        _HEADER(header, "its header")
    except ValueError as error:
        raise CheckpointError(str(error), where, f"It was made by another program, or damaged. {AGAIN}") from None
    return header


def _upgraded(header: dict[str, Any], made_for: int, where: str) -> dict[str, Any]:
    """A header of format ``made_for`` as one of the present format."""
    for number in range(made_for, FORMAT):
        if number not in _UPGRADES:
            raise CheckpointError(f"is of checkpoint format {made_for}, which was never released", where)
        try:
            header = {**_UPGRADES[number](header), "format": number + 1}
        except (KeyError, TypeError, ValueError, UsageError) as error:
            raise CheckpointError(f"its header of format {number} is incomplete ({error})", where) from None
    return header


def _split(raw: bytes, where: str = "weights") -> tuple[dict[str, Any], bytes]:
    """safetensors: 8 bytes little-endian header length, JSON header, data."""
    try:
        (length,) = struct.unpack_from("<Q", raw)
        header: dict[str, Any] = schema.parse_json(raw[8 : 8 + length])
        _TENSORS({name: t for name, t in header.items() if name != "__metadata__"}, "tensors")
        end = max((t["data_offsets"][1] for name, t in header.items() if name != "__metadata__"), default=0)
    except (struct.error, ValueError, TypeError, KeyError, AttributeError, OverflowError):
        raise CheckpointError("is not a safetensors file", where) from None
    if len(raw) != 8 + length + end:
        raise CheckpointError("is cut short or damaged", where, AGAIN)
    return header, raw[8 + length :]


def _join(header: dict[str, Any], data: bytes) -> bytes:
    text = json.dumps(header, separators=(",", ":"), sort_keys=True).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data
