from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uadtk.core.errors import UadtkError, UsageError
from uadtk.core.volume import Volume
from uadtk.io import write
from uadtk.io.read import read_scan, read_volume
from uadtk.io.write import (
    refuse_existing,
    refuse_file,
    refuse_folder,
    remove,
    scratch,
    staged,
    within,
    write_bytes,
    write_json,
    write_nifti,
    write_text,
)


def tree(folder: Path) -> dict[str, str]:
    """All files below a folder, including hidden ones."""
    return {str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


def full(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def denied(*_args, **_kwargs):
    raise OSError(errno.EACCES, os.strerror(errno.EACCES))


def test_write_and_replace(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    write_text(path, "ein\n")
    write_text(path, "zwei ⌈DICE⌉\r\n")
    assert path.read_bytes() == "zwei ⌈DICE⌉\r\n".encode()
    assert list(tree(tmp_path)) == ["new/folder/a.txt"]


def test_permissions_are_the_users(tmp_path):
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "a", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_a_link_that_the_user_named_is_written_through(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "a").symlink_to("there/b")
    write_bytes(tmp_path / "a", b"x", named=True)
    assert (tmp_path / "a").is_symlink()
    assert (tmp_path / "there/b").read_bytes() == b"x"


@pytest.mark.parametrize("planted", ["link", "dead link", "pipe"])
def test_what_is_planted_in_an_output_folder_is_replaced(tmp_path, planted):
    out, victim = tmp_path / "out", tmp_path / "victim"
    out.mkdir()
    if planted == "pipe":
        os.mkfifo(out / "a.json")
    else:
        (out / "a.json").symlink_to(victim)
    if planted == "link":
        victim.write_bytes(b"mine")
    write_json(out / "a.json", 1)
    assert (out / "a.json").read_bytes() == b"1\n"
    assert not (out / "a.json").is_symlink()
    assert (victim.read_bytes() if victim.exists() else b"") == (b"mine" if planted == "link" else b"")


def planted_folder(tmp_path: Path, link: str) -> tuple[Path, Path]:
    """An output folder in which ``link`` leads to somebody's own, with a file of a name that we use."""
    out, victim = tmp_path / "out", tmp_path / "victim"
    (out / link).parent.mkdir(parents=True)
    (victim / "anat").mkdir(parents=True)
    for place in (victim, victim / "anat"):
        (place / "a.json").write_bytes(b"mine")
    (out / link).symlink_to(victim)
    return out, victim


def write_set(out: Path, file: str, replaces: str) -> None:
    with staged(out, overwrite=True, replaces=[out / replaces]) as stage:
        (stage / file).parent.mkdir(parents=True, exist_ok=True)
        write_json(stage / file, 1)


def untouched(victim: Path) -> bool:
    files = {path.relative_to(victim).as_posix(): path.read_bytes() for path in victim.rglob("*") if path.is_file()}
    return files == {"a.json": b"mine", "anat/a.json": b"mine"}


@pytest.mark.parametrize("link", ["sub", "sub/anat"])
@pytest.mark.parametrize("file", ["a.json", "b.json"])
def test_a_link_to_a_folder_below_the_output_is_not_followed(tmp_path, link, file):
    out, victim = planted_folder(tmp_path, link)
    with pytest.raises(UsageError, match="links below an output folder are not followed"):
        write_set(out, f"sub/anat/{file}", replaces="sub/anat/a.json")
    assert untouched(victim)


def test_nothing_is_removed_behind_a_link_to_a_folder(tmp_path):
    out, victim = planted_folder(tmp_path, "sub")
    with pytest.raises(UsageError, match="links below an output folder are not followed"):
        write_set(out, "b.json", replaces="sub/a.json")
    with pytest.raises(UsageError, match="links below an output folder are not followed"):
        remove(out, [Path("sub/anat/a.json")])
    assert untouched(victim)


def test_the_output_folder_itself_may_be_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to("disk")
    assert within(tmp_path / "out", "sub", "anat") == tmp_path / "out/sub/anat"
    with staged(tmp_path / "out") as stage:
        (stage / "sub").mkdir()
        write_json(stage / "sub/a.json", 1)
    assert (tmp_path / "disk/sub/a.json").read_bytes() == b"1\n"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_name_that_no_file_can_have_is_refused_before_the_work(tmp_path, overwrite):
    with pytest.raises(UsageError, match="File name too long"):
        refuse_existing([tmp_path / ("n" * 256)], overwrite)
    with pytest.raises(UsageError, match="File name too long"):
        refuse_file(tmp_path / ("n" * 256), overwrite)
    refuse_file(tmp_path / ("n" * 255), overwrite)


def test_json(tmp_path):
    value = {"b": np.float32(0.5), "a": [np.int64(3), np.arange(2)], "p": Path("x/y"), "ü": (1, None)}
    write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert text.startswith('{\n  "b": 0.5,\n  "a"')
    assert text.endswith("}\n")
    assert "ü" in text
    assert json.loads(text) == {"b": 0.5, "a": [3, [0, 1]], "p": "x/y", "ü": [1, None]}
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", float("nan"))
    with pytest.raises(TypeError, match="object is not JSON-serialisable"):
        write_json(tmp_path / "a.json", object())
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == text


@pytest.mark.parametrize("step", ["open", "replace"])
def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch, step):
    write_text(tmp_path / "a", "old")
    with monkeypatch.context() as patched:
        patched.setattr(Path, step, full)
        with pytest.raises(UadtkError) as caught:
            write_text(tmp_path / "a", "new")
    assert caught.value.exit_code == 1
    assert caught.value.one_line() == (
        f"{tmp_path / 'a'}: cannot be written (No space left on device). Make room or choose another place."
    )
    assert tree(tmp_path) == {"a": "old"}
    assert os.listdir(tmp_path) == ["a"]


def test_a_full_disk_seen_only_when_flushing(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UadtkError, match="No space left"):
        write_text(tmp_path / "a", "new")
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_devices_are_written_to_and_not_replaced():
    with pytest.raises(UadtkError, match="No space left on device"):
        write_bytes("/dev/full", b"x")
    with pytest.raises(UadtkError, match="No space left on device"):
        write_bytes("/dev/full", b"x", named=True)
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)
    write_bytes("/dev/null", b"x")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_file_size_limit_for_real(tmp_path):
    """The kernel stops a write in the middle of a file."""
    code = f"""
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
from uadtk.io.write import staged, write_bytes, write_text
with staged({str(tmp_path / "out")!r}) as stage:
    write_text(stage / "first", "small")
    write_bytes(stage / "second", bytes(20_000))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"StorageError: {tmp_path / 'out/second'}: cannot be written (File too large). Make room" in done.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("place", "reason"), [("file/a", "a file is where"), ("file/a/b", "a file is where"), ("folder", "Is a directory")]
)
def test_places_that_cannot_be(tmp_path, place, reason):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(UadtkError, match=rf"cannot be written \({reason}") as caught:
        write_text(tmp_path / place, "x")
    assert caught.value.where == str(tmp_path / place)


def test_stage_where_it_cannot_be(tmp_path):
    (tmp_path / "file").touch()
    for place in ("file", "file/out"):
        with pytest.raises(UadtkError, match="a file is where a folder should be") as caught, staged(tmp_path / place):
            pytest.fail("must not start the work")
        assert caught.value.where == str(tmp_path / place)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission_for_real(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UadtkError, match="Permission denied"):
        write_text(tmp_path / "a", "x")


def test_no_permission(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "mkdir", denied)
    with (
        pytest.raises(UadtkError, match=r"cannot be written \(Permission denied\). Choose another"),
        staged(tmp_path / "out"),
    ):
        pytest.fail("must not start the work")


def test_refuse_folder_that_cannot_hold_files(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    refuse_folder(tmp_path)
    refuse_folder(tmp_path / "new" / "newer")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UsageError, match="is a file; expected a folder"):
            refuse_folder(path)
    monkeypatch.setattr(write.os, "access", lambda *_: False)
    with pytest.raises(UsageError, match="the folder is not writable"):
        refuse_folder(tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_refuse_existing(tmp_path):
    (tmp_path / "a").touch()
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "folder").mkdir()
    refuse_existing([tmp_path / "b"], overwrite=False)
    refuse_existing([tmp_path / "a", tmp_path / "link", tmp_path / "b"], overwrite=True)
    for name in ("a", "link"):
        with pytest.raises(UsageError, match=r"output exists\. Pass --overwrite") as caught:
            refuse_existing([tmp_path / "b", tmp_path / name], overwrite=False)
        assert caught.value.where == str(tmp_path / name)
    with pytest.raises(UsageError, match="is a folder"):
        refuse_existing([tmp_path / "folder"], overwrite=True)


def test_staged_files_appear_together(tmp_path):
    out = tmp_path / "not" / "yet"
    with staged(out) as stage:
        write_text(stage / "a.json", "a")
        write_text(stage / "sub" / "b.tsv", "b")
        (stage / "c.html").write_text("c")
        assert [p.name for p in out.iterdir()] == [stage.name]
        assert stage.name.startswith(".")
    assert tree(tmp_path) == {"not/yet/a.json": "a", "not/yet/sub/b.tsv": "b", "not/yet/c.html": "c"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("there", [True, False])
def test_staged_leaves_nothing_after_an_error(tmp_path, error, there):
    out = tmp_path / "not" / "yet"
    if there:
        write_text(out / "a", "old")

    def work():
        with staged(out, overwrite=True) as stage:
            write_text(stage / "a", "new")
            raise error

    with pytest.raises(error):
        work()
    assert tree(tmp_path) == ({"not/yet/a": "old"} if there else {})
    assert os.listdir(tmp_path) == (["not"] if there else [])


def test_staged_leaves_the_folder_if_others_write_there(tmp_path):
    def work():
        with staged(tmp_path / "out"):
            write_text(tmp_path / "out" / "theirs", "x")
            raise ValueError

    with pytest.raises(ValueError):
        work()
    assert tree(tmp_path) == {"out/theirs": "x"}


def test_staged_and_existing_files(tmp_path):
    for name in ("a", "b"):
        write_text(tmp_path / name, "old")

    def work(overwrite):
        with staged(tmp_path, overwrite) as stage:
            for name in ("0", "a"):
                write_text(stage / name, "new")

    with pytest.raises(UsageError, match="output exists"):
        work(overwrite=False)
    assert tree(tmp_path) == {"a": "old", "b": "old"}
    work(overwrite=True)
    assert tree(tmp_path) == {"0": "new", "a": "new", "b": "old"}


def test_staged_on_a_full_disk(tmp_path, monkeypatch):
    def work():
        with staged(tmp_path / "out") as stage:
            (stage / "a").write_text("x")
            monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(UadtkError, match=r"out: cannot be written \(No space left"):
        work()
    assert os.listdir(tmp_path) == []


_HANG = """
import sys, time
from uadtk.io.write import staged, write_text
with staged(sys.argv[1]) as stage:
    write_text(stage / "a", "half")
    print(stage, flush=True)
    time.sleep(60)
"""


def test_what_a_killed_process_leaves_is_removed(tmp_path):
    out = tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-c", _HANG, str(out)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        with process.stdout:
            left = Path(process.stdout.readline().strip())
        old = time.time() - 3600
        os.utime(left, (old, old))
        with staged(out) as stage:
            write_text(stage / "b", "while the other one works")
        assert left.is_dir(), "the folder of a process that lives was removed"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert (left / "a").read_text() == "half"
    assert [p.name for p in out.glob("[!.]*")] == ["b"]
    os.utime(left, (old, old))
    write._next_sweep.clear()  # a later run; this one may have looked too recently, on a busy machine
    with staged(out) as stage:
        write_text(stage / "c", "after it")
    assert sorted(os.listdir(out)) == ["b", "c"]


def test_what_may_be_anothers_stays(tmp_path, monkeypatch):
    """A fresh folder, one of another machine (for a week), one of another user, and a link."""
    own = f".uadtk-{write._HOST}"
    ages_s = {f"{own}-0": 5, f"{own}-1": 60, ".uadtk-elsewhere-0": 86400, ".uadtk-elsewhere-1": 8 * 86400}
    for name, age_s in ages_s.items():
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - age_s,) * 2)
    target = tmp_path / "target"
    write_text(target / "a", "mine")
    (tmp_path / f"{own}-2").symlink_to(target)
    os.utime(tmp_path / f"{own}-2", (0, 0), follow_symlinks=False)
    write._next_sweep.clear()
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: 12345, raising=False)
        write_text(tmp_path / "x", "x")
    assert all((tmp_path / name).is_dir() for name in ages_s)
    write._next_sweep.clear()
    write_text(tmp_path / "x", "x")
    assert {name for name in ages_s if (tmp_path / name).exists()} == {f"{own}-0", ".uadtk-elsewhere-0"}
    assert (target / "a").read_text() == "mine"


def test_scratch_of_a_killed_process_is_removed_by_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = "import os; from uadtk.io.write import scratch\nwith scratch(): os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(tmp_path)}, check=False)
    (left,) = tmp_path.iterdir()
    assert stat.S_IMODE(left.stat().st_mode) == 0o700
    os.utime(left, (time.time() - 60,) * 2)
    write._next_sweep.clear()
    with scratch() as folder:
        assert list(tmp_path.iterdir()) == [folder]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_only_named_like_a_stage_is_written_atomically(tmp_path, monkeypatch):
    place = tmp_path / ".uadtk-data" / "a"
    write_text(place, "old")
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(UadtkError):
        write_text(place, "new")
    assert place.read_text() == "old"


def test_without_locks_no_folder_of_another_process_is_removed(tmp_path, monkeypatch):
    """Windows has no fcntl and cannot open folders."""
    old = tmp_path / f".uadtk-{write._HOST}-0123456789abcdef"
    old.mkdir()
    os.utime(old, (0, 0))
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setattr(os, "open", denied)
    write_text(tmp_path / "a", "x")
    with staged(tmp_path / "out") as stage:
        write_text(stage / "b", "y")
    assert tree(tmp_path) == {"a": "x", "out/b": "y"}
    assert old.is_dir()


def test_a_file_that_another_program_has_open(tmp_path, monkeypatch):
    """Windows does not allow replacing it."""
    write_text(tmp_path / "a", "old")
    monkeypatch.setattr(Path, "replace", denied)
    with pytest.raises(UadtkError, match=r"a: cannot be written \(Permission denied\)\. Choose another place"):
        write_text(tmp_path / "a", "new")
    assert tree(tmp_path) == {"a": "old"}


@st.composite
def affines(draw):
    """Any orientation: rotated, mirrored, with axes swapped, anisotropic, perhaps sheared."""
    seed, shear = draw(st.integers(0, 2**32 - 1)), draw(st.booleans())
    rng = np.random.default_rng(seed)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    if draw(st.booleans()):
        turn = np.eye(3)[rng.permutation(3)] * rng.choice([-1, 1], 3)
    affine = np.eye(4)
    affine[:3, :3] = turn * rng.uniform(0.3, 8, 3)
    if shear:
        affine[:3, :3] = affine[:3, :3] @ (np.eye(3) + 0.1 * np.triu(rng.normal(size=(3, 3)), 1))
    affine[:3, 3] = rng.uniform(-300, 300, 3)
    return affine


@settings(max_examples=80, deadline=None)
@given(
    affine=affines(),
    dtype=st.sampled_from(["bool", "u1", "i2", "i4", "i8", ">i2", "f4", ">f4", "f8"]),
    shape=st.tuples(*[st.integers(1, 7)] * 3),
    order=st.sampled_from("CF"),
    ending=st.sampled_from([".nii", ".nii.gz"]),
)
def test_nifti_round_trip(tmp_path_factory, affine, dtype, shape, order, ending):
    voxels = np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 100, shape).astype(dtype, order=order)
    folder = tmp_path_factory.mktemp("w")
    path = folder / f"a{ending}"
    write_nifti(path, Volume(voxels, affine))
    image = nib.load(path)
    assert image.shape == shape
    expected = {"bool": "u1", "u1": "u1", "i2": "i2", "i4": "i2", "i8": "i2", ">i2": "i2"}.get(dtype, "f4")
    assert image.get_data_dtype() == np.dtype(expected).newbyteorder("<")
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), voxels)
    np.testing.assert_array_equal(image.affine, affine.astype(np.float32))
    np.testing.assert_array_equal(read_volume(path).affine, affine.astype(np.float32))
    assert image.header["sform_code"] == 1
    if image.header["qform_code"]:
        # a quaternion of three float32 numbers resolves rotations near 180 degrees only to 1e-3
        np.testing.assert_allclose(image.get_qform(), affine, atol=1e-2)
    write_nifti(folder / f"b{ending}", Volume(voxels, affine))
    assert path.read_bytes() == (folder / f"b{ending}").read_bytes()


def test_a_scans_own_affine_comes_back_bit_for_bit(tmp_path):
    affine = np.array([[-0.9, 0.1, 0.2, 80], [0.1, 0.9, -0.3, -100.3], [0.1, 0.3, 4.9, -40.7], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(np.arange(24.0).reshape(2, 3, 4), affine), tmp_path / "scan.nii")
    scan = read_scan(tmp_path / "scan.nii")
    write_nifti(tmp_path / "score.nii.gz", scan)
    np.testing.assert_array_equal(read_scan(tmp_path / "score.nii.gz").affine, scan.affine)


def test_qform_only_without_shear(tmp_path):
    sheared = np.eye(4)
    sheared[0, 1] = 0.2
    codes = []
    for affine in (np.diag([-1.0, 2, 3, 1]), sheared):
        write_nifti(tmp_path / "a.nii", Volume(np.ones((2, 2, 2), bool), affine))
        codes.append(int(nib.load(tmp_path / "a.nii").header["qform_code"]))
    assert codes == [1, 0]


@pytest.mark.parametrize(("label", "kind"), [(32767, "i2"), (32768, "i4"), (-40000, "i4")])
def test_labels_get_the_type_they_need(tmp_path, label, kind):
    labels = np.zeros((2, 2, 2), np.int64)
    labels[0, 0, 0] = label
    write_nifti(tmp_path / "a.nii.gz", Volume(labels, np.eye(4)))
    image = nib.load(tmp_path / "a.nii.gz")
    assert image.get_data_dtype() == kind
    assert np.asanyarray(image.dataobj)[0, 0, 0] == label
    with pytest.raises(ValueError, match="do not fit"):
        write_nifti(tmp_path / "a.nii.gz", Volume(labels * 2**31, np.eye(4)))


def test_another_reader_agrees(tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    voxels = np.random.default_rng(0).random((4, 5, 6), dtype=np.float32)
    affine = np.diag([-0.5, -0.5, 3.0, 1.0])  # LPS to ITK: no mirroring left
    affine[:3, 3] = 10, 20, -30
    write_nifti(tmp_path / "a.nii.gz", Volume(voxels, affine))
    image = sitk.ReadImage(str(tmp_path / "a.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), voxels.T)
    np.testing.assert_allclose(image.GetSpacing(), (0.5, 0.5, 3.0))
    np.testing.assert_allclose(image.GetOrigin(), (-10, -20, -30))
    np.testing.assert_allclose(image.GetDirection(), np.eye(3).ravel(), atol=1e-7)


class Killed(BaseException):
    """In place of SIGKILL."""


@pytest.mark.parametrize("moved", [0, 1, 2])
@pytest.mark.parametrize("former", [False, True])
def test_a_set_that_a_kill_left_unfinished_is_replaced_by_the_same_command(tmp_path, monkeypatch, moved, former):
    out, names = tmp_path / "out", ["a.txt", "sub/b.txt", "c.txt"]
    targets = [out / name for name in names]

    def command(overwrite: bool = False) -> None:
        refuse_existing(targets, overwrite)
        with staged(out, overwrite) as stage:
            for name in names:
                (stage / name).parent.mkdir(exist_ok=True)
                write_text(stage / name, "new")

    if former:
        out.joinpath("sub").mkdir(parents=True)
        for target in targets:
            target.write_text("old")
    with monkeypatch.context() as patched:
        real, count = Path.replace, []

        def replace(self: Path, target: Path) -> Path:
            count.append(target in targets)
            if sum(count) > moved:
                raise Killed
            return real(self, target)

        patched.setattr(Path, "replace", replace)
        with pytest.raises(Killed):
            command(overwrite=former)
    assert sum(target.exists() and target.read_text() == "new" for target in targets) == moved
    (out / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="exists"):
        refuse_existing([out / "mine.txt"], overwrite=False)
    command()
    assert [target.read_text() for target in targets] == ["new"] * 3
    assert {path.name for path in out.iterdir()} == {"a.txt", "sub", "c.txt", "mine.txt"}
    with pytest.raises(UsageError, match="exists"):
        command()


@pytest.mark.parametrize(("manifest", "step"), [*(("", n) for n in range(14)), *(("c.json", n) for n in range(12))])
def test_a_signal_while_files_are_moved_leaves_the_whole_set(tmp_path, monkeypatch, manifest, step):
    """Wherever it arrives: before or after each call that changes a folder."""
    out, names, calls = tmp_path / "out", ["a.txt", "b.txt", "c.json"], iter(range(100))

    def interrupting(real):
        def call(*arguments, **keywords):
            before, after = (next(calls) == step for _ in range(2))
            if before:
                raise KeyboardInterrupt
            result = real(*arguments, **keywords)
            if after:
                raise KeyboardInterrupt
            return result

        return call

    def command() -> None:
        with staged(out, manifest=manifest) as stage:
            for name in names:
                write_text(stage / name, "{}")
            for owner, name in [(Path, "replace"), (Path, "unlink"), (write, "flush_folder")]:
                monkeypatch.setattr(owner, name, interrupting(getattr(owner, name)))

    with pytest.raises(KeyboardInterrupt):
        command()
    monkeypatch.undo()
    assert {path.name for path in out.iterdir()} == {*names}
    assert {(out / name).read_text() for name in names} == {"{}"}


def test_a_journal_of_another_user_allows_nothing(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("mine")
    (tmp_path / ".uadtk-unfinished.json").write_text('{"unfinished": ["a.txt"]}')
    refuse_existing([tmp_path / "a.txt"], overwrite=False)
    monkeypatch.setattr("os.geteuid", lambda: 12345)
    with pytest.raises(UsageError, match="output exists"):
        refuse_existing([tmp_path / "a.txt"], overwrite=False)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"unfinished": 3}', '{"unfinished": [[1]]}', '{"unfinished": null}'])
def test_a_damaged_journal_allows_nothing(tmp_path, text):
    (tmp_path / ".uadtk-unfinished.json").write_text(text)
    (tmp_path / "a.txt").write_text("mine")
    with pytest.raises(UsageError, match="exists"):
        refuse_existing([tmp_path / "a.txt"], overwrite=False)
