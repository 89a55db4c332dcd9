"""Tables of text: the cohort tables that people and programs write, and BIDS's own.

Accepted: tabs, commas, semicolons, bars or blanks; UTF-8, UTF-16 or an 8-bit encoding; row names of R or the index of
pandas; ``NA``, ``nan`` or nothing for an empty cell; column names in any case. Anything ambiguous is an error with line
and column.
"""

from __future__ import annotations

import codecs
import csv
import difflib
import io
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from uadtk.core.absent import refuse_special
from uadtk.core.errors import DataError, did_you_mean
from uadtk.io.names import IMAGE
from uadtk.io.rows import COLUMNS, FILES, LATER_FILES, Row, group_of, split_of
from uadtk.io.write import write_bytes

SUFFIXES = (".tsv", ".csv", ".txt", ".tab")
_SHEETS = (".xlsx", ".xls", ".ods")
# Missing values of pandas, in any case, and MATLAB's <missing>. R writes NA, Excel #N/A.
_EMPTY = {
    *("", "n/a", "na", "nan", "-nan", "none", "null", "<na>", "#n/a", "#na", "#n/a n/a", "<missing>"),
    *("1.#ind", "1.#qnan", "-1.#ind", "-1.#qnan", "nat"),
}
_UNCLEAR = {"-", "--", "---", "\u2013", "\u2014", ".", "?"}  # could mean none or unknown
_SYNONYMS = {
    "subject": ("participant", "participantid", "subjectid", "sub", "subid", "patient", "patientid"),
    "image": ("imagepath", "imagefile", "scan", "scanpath", "flair", "flairpath"),  # a path may be of anything
    "group": ("diagnosis", "dx"),
    "site": ("center", "centre"),
    "split": ("partition", "subset"),
}
_MASK_WORDS = re.compile(r"mask|lesion|label|seg|roi|truth|annot|manual|tumou?r|wmh|\bgt\b", re.IGNORECASE)
_NEARLY = 0.8
_INVISIBLE = "\u200b\u2060\ufeff"  # spaces of no width, as web pages and joined files leave them
_UTF = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAVE_AS_TEXT = "Save it as text (UTF-8) with tabs or commas."


@dataclass(frozen=True)
class Sheet:
    """A table: column names, and for each non-empty line its location and its cells by column.

    Empty cells, in any spelling, are left out. Bytes that are not UTF-8 are lone surrogates.
    """

    columns: tuple[str, ...]
    lines: tuple[tuple[str, dict[int, str]], ...]


def is_table(path: Path) -> bool:
    """Whether its file name is that of a table. Raises DataError for a spreadsheet file."""
    if path.suffix.lower() in _SHEETS:
        raise DataError("is a spreadsheet", str(path), "Save it as text: CSV UTF-8 or tab delimited.")
    return path.suffix.lower() in SUFFIXES


def read_table(path: Path) -> tuple[list[Row], list[str]]:
    """The rows of a cohort table, and notes on columns that are not used. Raises ``DataError``."""
    sheet = read_sheet(path)
    places = known_columns(sheet.columns, COLUMNS, ("subject", "image"))
    whole = _whole_numbers(sheet, places["subject"])
    rows = [_row(path.parent, places, cells, where, whole) for where, cells in sheet.lines]
    return rows, list(_unused(sheet, places, path))


def read_sheet(path: Path) -> Sheet:
    """Raises ``DataError`` if it is no table of text, or a line has more cells than there are columns."""
    refuse_special(path, most=1 << 28)
    text = _decoded(path.read_bytes())
    head = re.match(r'"?sep=(.)"?\r?\n', text, re.IGNORECASE)  # Excel's own first line
    delimiter = head[1] if head else _delimiter(text)
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=delimiter == " "
    )
    lines: list[tuple[str, list[str]]] = []
    try:
        for cells in reader:
            if any(map(str.strip, cells)) and (reader.line_num > 1 or not head):
                lines.append((f"{path}, line {reader.line_num}", cells))
    except csv.Error as error:
        raise DataError(f"is no table of text (line {reader.line_num}: {error})", fix=_SAVE_AS_TEXT) from error
    columns = [name.strip() for name in lines.pop(0)[1]] if lines else []
    lines = _aligned(columns, lines)
    return Sheet(tuple(columns), tuple((where, _cells(cells, columns, where)) for where, cells in lines))


def _decoded(content: bytes) -> str:
    coding = next((name for bom, name in _UTF if content.startswith(bom)), None)
    if coding is None and b"\0" in content[:200]:  # UTF-16 without its mark: every second byte of Latin text is 0
        coding = "utf-16-be" if content[:1] == b"\0" else "utf-16-le" if content[1:2] == b"\0" else None
    try:
        text = content.decode(coding) if coding else content.decode("utf-8", "surrogateescape")
    except UnicodeDecodeError as error:
        raise DataError(f"is no table of text ({error})", fix=_SAVE_AS_TEXT) from error
    if "\0" in text:
        raise DataError("is no table of text (it holds zero bytes)", fix=_SAVE_AS_TEXT)
    return text


def _delimiter(text: str) -> str:
    first = re.sub(r'"[^"]*"', "x", text.lstrip("\r\n").partition("\n")[0])
    if "\t" in first:
        return "\t"
    return max(",;|", key=first.count) if set(first) & set(",;|") else " " if " " in first.strip() else "\t"


def _aligned(columns: list[str], lines: list[tuple[str, list[str]]]) -> list[tuple[str, list[str]]]:
    """Without R's row names, which have no column, and without an empty last cell on every line."""
    if not lines or any(len(cells) != len(columns) + 1 for _, cells in lines):
        return lines
    first, last = ([cells[place].strip() for _, cells in lines] for place in (0, -1))
    numbered = all(map(str.isdecimal, first)) and len(set(first)) == len(first)
    if numbered and any(last):
        return [(where, cells[1:]) for where, cells in lines]
    if not numbered and not any(last):
        return [(where, cells[:-1]) for where, cells in lines]
    raise DataError(
        f"{len(columns) + 1} cells under {len(columns)} columns",
        lines[0][0],
        "Write the table without row names (R: row.names=FALSE) and without a delimiter at the end of lines.",
    )


def _cells(cells: list[str], columns: list[str], where: str) -> dict[int, str]:
    filled = list(cells)
    while len(filled) > len(columns) and not filled[-1].strip():
        filled.pop()
    if len(filled) > len(columns):
        raise DataError(f"{len(filled)} cells under {len(columns)} columns", where, "Repair the line.")
    return {place: cell for place, cell in enumerate(filled) if cell.strip().strip(_INVISIBLE).casefold() not in _EMPTY}


def known_columns(columns: Sequence[str], wanted: Sequence[str], needed: Sequence[str] = ()) -> dict[str, int]:
    """The positions of the columns ``wanted``, whatever the spelling of their names.

    Raises
    ------
    DataError
        One of ``needed`` is missing, two columns have the same meaning, or a name is nearly that of a missing column:
        a misspelt ``lesion_mask`` would make patients healthy.
    """
    plain = [_plain(name) for name in columns]
    places: dict[str, int] = {}
    for name in wanted:
        found = [place for place, one in enumerate(plain) if one == _plain(name)]
        found = found or [place for place, one in enumerate(plain) if one in _SYNONYMS.get(name, ())]
        if len(found) > 1:
            first, second = (columns[place] for place in found[:2])
            what = (
                f"two columns '{first}'" if first == second else f"two columns for '{name}', '{first}' and '{second}'"
            )
            raise DataError(f"the table has {what}", fix=f"Remove one, or call the right one '{name}'.")
        if found:
            places[name] = found[0]
    for name in needed:
        if name not in places:
            raise DataError(f"the table has no column '{name}'", fix=did_you_mean(name, filter(None, columns)))
    for place, one in enumerate(plain):
        if place in places.values() or not one:
            continue
        near = difflib.get_close_matches(one, [_plain(n) for n in wanted if n not in places], 1, _NEARLY)
        meant = next((name for name in wanted if [_plain(name)] == near), None)
        if meant:
            raise DataError(
                f"the table has a column '{columns[place]}', which is nearly '{meant}'",
                fix=f"Call it '{meant}', or otherwise if it is something else.",
            )
    return places


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).casefold()


def word(cell: str) -> str:
    """The text of a cell; bytes that are not UTF-8 are taken for those of Windows (and of Latin-1)."""
    try:
        cell.encode()
    except UnicodeEncodeError:
        content = cell.encode(errors="surrogateescape")
        try:
            cell = content.decode("cp1252")
        except UnicodeDecodeError:
            cell = content.decode("latin-1")
    return cell.strip()


def values_of(cells: dict[int, str], places: dict[str, int], where: str) -> dict[str, str]:
    """The cells of known columns. Raises ``DataError`` for an ambiguous one."""
    values = {name: cells[place] for name, place in places.items() if place in cells}
    for name, cell in values.items():
        if cell.strip().casefold() in _UNCLEAR:
            fix = "Leave it empty (or n/a) if there is nothing to say."
            raise DataError(f"'{cell.strip()}' in column '{name}' may mean none or not known", where, fix)
    return values


def _row(folder: Path, places: dict[str, int], cells: dict[int, str], where: str, whole: bool) -> Row:
    values = values_of(cells, places, where)
    for name in ("subject", "image"):
        if name not in values:
            raise DataError(f"no {name}", where, "Fill in the cell or remove the line.")
    subject = word(values["subject"])
    files = {name: _path(folder, values[name]) for name in (*FILES, *LATER_FILES) if name in values}
    words: dict[str, Any] = {n: word(values[n]) for n in ("site", "collection", "label_source") if n in values}
    words |= {n: of(word(values[n])) for n, of in (("group", group_of), ("split", split_of)) if n in values}
    numbers = {name: _numbers(values, name, where) for name in ("lesion_free_slices", "lesion_labels")}
    return Row(subject.partition(".")[0] if whole else subject, **files, **words, **numbers)  # type: ignore[arg-type]


def _whole_numbers(sheet: Sheet, place: int) -> bool:
    """Every subject is a whole number and some are written 1.0: a program has read names as numbers."""
    return all(re.fullmatch(r"[0-9]+(\.0)?", cells.get(place, "0").strip()) for _, cells in sheet.lines)


def _numbers(values: dict[str, str], name: str, where: str) -> tuple[int, ...] | None:
    """``12 13 14``; also ``[12, 13]`` of Python, ``c(12, 13)`` of R and ``12.0``. ``all`` is no list."""
    text = values.get(name, "").strip()
    listed = re.sub(r"^(c?\((.*)\)|\[(.*)\])$", r"\2\3", text)
    tokens = [] if listed.casefold() == "all" else [token for token in re.split(r"[\s,]+", listed) if token]
    if not all(re.fullmatch(r"[0-9]{1,9}(\.0*)?", token) for token in tokens):
        raise DataError(f"{name} is '{text}'", where, "Write numbers: 12 13 14.")
    return tuple(sorted({int(token.partition(".")[0]) for token in tokens})) or None


_FORMS: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")


def _path(folder: Path, cell: str) -> Path:
    """The file that a cell names: as written or, if that does not exist, as another system would write it."""
    stripped = cell.strip()
    spelled = [stripped, cell, word(cell), stripped.replace("\\", "/"), os.path.expanduser(stripped)]
    spelled += [unicodedata.normalize(form, way) for way in spelled[:4] for form in _FORMS]
    there = (folder / way for way in spelled if os.path.lexists(folder / way))
    return next(there, folder / stripped.replace("\\", "/"))


def _unused(sheet: Sheet, places: dict[str, int], path: Path) -> Iterator[str]:
    """Columns of images under a name that could mean a mask."""
    for place, name in enumerate(sheet.columns):
        if place in places.values() or not _MASK_WORDS.search(name):
            continue
        if any(IMAGE.search(cells.get(place, "").strip()) for _, cells in sheet.lines):
            yield (
                f"{path}: column '{name}' names images and is not used: "
                "lesion masks belong in the column lesion_mask, brain masks in brain_mask"
            )


def write_cohort(path: Path, rows: Iterable[Row]) -> None:
    """Write ``cohort.tsv``, with file names for files in its folder and full paths for others.

    Paths are written with slashes, which every system reads; file names that are not UTF-8 stay as they are. Columns
    without values are left out.

    Raises as ``write_bytes``.
    """
    rows = list(rows)
    columns = [name for name in COLUMNS if any(getattr(row, name) is not None for row in rows)]
    lines = [columns, *([_cell(getattr(row, name), path.parent) for name in columns] for row in rows)]
    text = "".join("\t".join(map(_quoted, line)) + "\n" for line in lines)
    write_bytes(path, text.encode(errors="surrogateescape"))


def _quoted(cell: str) -> str:
    """As ``csv`` quotes it, which leaves a bare carriage return as it is and then cannot read it."""
    return '"' + cell.replace('"', '""') + '"' if set(cell) & set('\t\r\n"') else cell


def _cell(value: Any, folder: Path) -> str:
    if isinstance(value, Path):
        return value.name if value.parent == folder else value.absolute().as_posix()
    return " ".join(map(str, value)) if isinstance(value, tuple) else value or ""
