"""Coverage-guided fuzzing of the readers of checkpoints, tables and receipts, with Atheris (libFuzzer).

    pip install atheris
    python -m benchmarks.hardening.fuzz --minutes 10

libFuzzer changes bytes of valid files and keeps changes that reach new code of uadtk. What is fuzzed of a checkpoint
is the JSON in its header, with the weights and a right checksum around it: bytes of the container rarely get past
safetensors. Each input ends as in ``malformed.py``; a traceback, hang, memory or nonsense is a fault, which is printed
once for each place in the code, with the input in base64. libFuzzer's corpus goes on from run to run in ``build/fuzz``.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

READERS = ("table", "checkpoint", "receipt")
STORE = Path("build/fuzz")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10, help="for each reader")
    parser.add_argument("--reader", choices=READERS, help="only this one")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        _fuzz(given.reader, given.minutes)
        return
    print("| reader | inputs | kept for new coverage | faults |\n|---|---|---|---|", flush=True)
    faults = 0
    for reader in [given.reader] if given.reader else READERS:
        words = [sys.executable, "-m", "benchmarks.hardening.fuzz", "--inside", "--reader", reader]
        done = subprocess.run([*words, "--minutes", str(given.minutes)], capture_output=True, text=True, check=False)
        ran = re.search(r"Done (\d+) runs", done.stderr)
        found = re.findall(r"^FAULT (.*)$", done.stderr, re.MULTILINE)
        found += [] if ran else [f"the fuzzer ended with {done.returncode}: {done.stderr[-2000:]}"]
        kept = len(list((STORE / reader).iterdir()))
        print(f"| {reader} | {ran[1] if ran else '?'} | {kept} | {len(found)} |", flush=True)
        print("\n".join(found), file=sys.stderr, flush=True)
        faults += len(found)
    sys.exit(bool(faults))


def _fuzz(reader: str, minutes: float) -> None:
    import atheris

    with atheris.instrument_imports(include=["uadtk"]):
        from benchmarks.hardening import malformed

    kind = next(kind for kind in malformed.KINDS if kind.name == reader)
    corpus, seen = STORE / reader, set[str]()
    corpus.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        valid, path = kind.valid(Path(folder)), Path(folder) / kind.file
        inner, wrap = _header(valid) if reader == "checkpoint" else (valid, bytes)
        (corpus / "valid").write_bytes(inner)
        (Path(folder) / "words").write_text("".join(f'"{word}"\n' for word in _words(inner)))

        def one(data: bytes) -> None:
            path.write_bytes(wrap(data))
            end, why = malformed._end(kind, path)
            place = why if end == "nonsense" else "\n".join(why.splitlines()[-3:])
            if end not in ("read", "refused") and place not in seen:
                seen.add(place)
                print("FAULT", json.dumps([end, why, base64.b64encode(data).decode()]), file=sys.stderr, flush=True)

        options = [f"-max_total_time={round(60 * minutes)}", "-timeout=0", "-rss_limit_mb=0", "-max_len=20000"]
        atheris.Setup([sys.argv[0], *options, f"-dict={folder}/words", str(corpus)], one)
        atheris.Fuzz()


def _header(checkpoint: bytes) -> tuple[bytes, Callable[[bytes], bytes]]:
    """The JSON of uadtk in a checkpoint, and a function that puts another in its place."""
    (length,) = struct.unpack_from("<Q", checkpoint)
    outer = json.loads(checkpoint[8 : 8 + length])

    def wrap(inner: bytes) -> bytes:
        text = json.dumps({**outer, "__metadata__": {"uadtk": inner.decode(errors="replace")}}).encode()
        return struct.pack("<Q", len(text)) + text + checkpoint[8 + length :]

    return outer["__metadata__"]["uadtk"].encode(), wrap


def _words(valid: bytes) -> list[str]:
    """Words of a valid file, and values that are often mishandled, for libFuzzer's dictionary."""
    known = sorted(set(re.findall(r"[A-Za-z_][\w.-]{2,30}", valid.decode(errors="replace"))))
    extreme = ["null", "true", "NaN", "Infinity", "-1", "1e999", "1e-320", "[]", "{}", str(2**63), "\\x00", "\\xff"]
    return [*known[:400], *extreme, "\\x09", "\\x0a", "\\x22\\x22"]


if __name__ == "__main__":
    main()
