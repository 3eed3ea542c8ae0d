#!/usr/bin/python3
"""Every verb on every bad or odd file: exit status 0, 3 or 4, one clear line, nothing left behind.

usage: bad_input.py MUONSPEC DATA_FOLDER

Each run has 60 seconds and 4 GiB of address space. Files come from the test data (odd, text, raw,
safetensors) and from this script. Only Python's standard library is needed; a few cases use h5py
when it is there."""
import glob
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor

MUONSPEC, DATA = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
GIB4 = 4 << 30
SHAPES = ("1x1", "1xn", "mx1", "0xn", "mx0")


# ---- running -------------------------------------------------------------------------------

def limits():
    resource.setrlimit(resource.RLIMIT_AS, (GIB4, GIB4))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def run(arguments, folder, stdout=subprocess.PIPE, **more):
    return subprocess.run([MUONSPEC] + arguments, stdin=subprocess.DEVNULL, stdout=stdout,
                          stderr=subprocess.PIPE, timeout=60, cwd=folder, preexec_fn=limits, **more)


def is_clean(text):
    """Printable: no control characters but the line's end, no escape codes."""
    return all(c == "\n" or (c.isprintable()) for c in text)


def judge(result, expected=(0, 3, 4)):
    """What is wrong with a run; None if nothing."""
    if result.returncode < 0:
        return "killed by signal %d" % -result.returncode
    if result.returncode not in expected:
        return "exit status %d" % result.returncode
    message = result.stderr.decode("utf-8", "replace")
    if not is_clean(message):
        return "unprintable message"
    if result.returncode and (message.count("\n") != 1 or len(message) < 20):
        return "not one clear line: %r" % message[:300]
    if not result.returncode and message:
        return "a message although all is well: %r" % message[:300]
    if result.returncode and result.stdout:
        return "results and a failure"
    return None


def judge_report(result):
    """The JSON of a run that ended well: valid, and no number that isn't one."""
    report = json.loads(result.stdout.decode("ascii"))
    for m in report["matrices"]:
        numbers = [v for v in m["metrics"].values() if v is not None]
        if m["status"] != "ok" and numbers:
            return "%s: %s, yet has numbers" % (m["name"], m["status"])
        if m["status"] != "ok" and not m.get("notes"):
            return "%s: %s without a reason" % (m["name"], m["status"])
    return None


def every_verb(path):
    """Problems of all verbs on one file."""
    problems = []
    folder = tempfile.mkdtemp(dir=SCRATCH)
    runs = [["ls", path], ["analyze", path], ["analyze", path, "--format", "json"],
            ["analyze", path, "--include-optimizer", "-o", "spectra.h5"],
            ["convert", path, "out.h5"], ["convert", path, "out.safetensors"],
            ["risk", path, path, "-q", "--lr", "0.01", "--format", "jsonl"],
            ["forward", path, "--tokens", __file__],
            ["track", path, "-q", "--no-store", "--align", "2", "--format", "jsonl"],
            ["track", path, "-q", "-o", "spectra.h5"],
            ["compare", path, path, "-q", "--no-store"]]
    for arguments in runs:
        try:
            result = run(arguments, folder)
        except subprocess.TimeoutExpired:
            problems.append("%s: took longer than 60 s" % arguments[0])
            continue
        problem = judge(result)
        if not problem and not result.returncode and "json" in arguments:
            problem = judge_report(result)
        left = os.listdir(folder)
        output = arguments[-1] if arguments[-1].startswith(("out", "spectra")) else None
        wanted = [output] if output and not result.returncode else []
        if not problem and left != wanted:
            problem = "left behind %s" % left
        for name in left:
            os.unlink(os.path.join(folder, name))
        if problem:
            problems.append("%s: %s" % (" ".join(arguments), problem))
    os.rmdir(folder)
    return problems


# ---- files made here -----------------------------------------------------------------------

def put(name, content):
    path = os.path.join(SCRATCH, name)
    with open(path, "wb") as f:
        f.write(content)
    return path


def safetensors(tensors):
    """(name, dtype, shape, bytes) in order; names may repeat."""
    parts, offset, data = [], 0, b""
    for name, dtype, shape, raw in tensors:
        parts.append("%s:%s" % (json.dumps(name), json.dumps(
            {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(raw)]})))
        offset += len(raw)
        data += raw
    header = ("{%s}" % ",".join(parts)).encode()
    return struct.pack("<Q", len(header)) + header + data


def floats(*values):
    return struct.pack("<%df" % len(values), *values)


def made_files():
    nan, inf = float("nan"), float("inf")
    ramp = [((i * 37) % 101 - 50) / 50 for i in range(64)]
    good = safetensors([("a.weight", "F32", [8, 8], floats(*ramp)),
                        ("b.weight", "F32", [4, 16], floats(*ramp))])
    yield put("zero-bytes.h5", b"")
    yield put("zero-bytes.safetensors", b"")
    yield put("noise.h5", bytes((i * 131 + 7) % 256 for i in range(5000)))
    yield put("escapes.safetensors", safetensors(
        [("a\n\x1b[31m\x07\t\"<script>$(x)`\u202e.weight", "F32", [8, 8], floats(*ramp))]))
    yield put("twice.safetensors", safetensors(
        [("a.weight", "F32", [8, 8], floats(*ramp)), ("a.weight", "F32", [8, 8], floats(*ramp))]))
    yield put("nan-only.safetensors", safetensors(
        [("a.weight", "F32", [8, 8], floats(*[nan] * 64))]))
    yield put("some-nan.safetensors", safetensors(
        [("a.weight", "F32", [8, 8], floats(*(ramp[:60] + [nan, inf, -inf, nan]))),
         ("b.weight", "F32", [8, 8], floats(*ramp))]))
    yield put("shapes.safetensors", safetensors(
        [("x.1x1", "F32", [1, 1], floats(2)), ("x.1xn", "F32", [1, 64], floats(*ramp)),
         ("x.mx1", "F32", [64, 1], floats(*ramp)), ("x.0xn", "F32", [0, 7], b""),
         ("x.mx0", "F32", [7, 0], b""), ("x.scalar", "F32", [], floats(1))]))
    yield put("zeros.safetensors", safetensors([("a.weight", "F32", [8, 8], floats(*[0] * 64))]))
    for scale in (1e-38, 1e-45, 1e38, 3e38):
        yield put("scale%g.safetensors" % scale, safetensors(
            [("a.weight", "F32", [8, 8], floats(*[x * scale for x in ramp]))]))
    for scale in (1e-300, 1e300):
        yield put("scale%g.safetensors" % scale, safetensors(
            [("a.weight", "F64", [8, 8], struct.pack("<64d", *[x * scale for x in ramp]))]))
    for name, shape in (("huge", [1 << 40, 1 << 20]), ("negative", [-1, 8]),
                        ("overflow", [1 << 62, 1 << 62]), ("deep", [2] * 40)):
        yield put(name + ".safetensors", safetensors([("a.weight", "F32", shape, floats(*ramp))]))
    for length in (0, 1, 1 << 20, 1 << 63, (1 << 64) - 1):
        yield put("header%d.safetensors" % length, struct.pack("<Q", length) + good[8:])
    with zipfile.ZipFile(os.path.join(SCRATCH, "twice.npz"), "w") as z:
        warnings.simplefilter("ignore")  # zipfile itself finds the second name odd
        for _ in range(2):
            z.writestr("a.npy", npy("<f4", (8, 8), floats(*ramp)))
    yield os.path.join(SCRATCH, "twice.npz")
    yield put("huge.npy", npy("<f4", (1 << 40, 1 << 20), floats(*ramp)))
    yield put("object.npy", npy("|O", (8, 8), floats(*ramp)))
    with zipfile.ZipFile(os.path.join(SCRATCH, "good.npz"), "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("a.npy", npy("<f4", (8, 8), floats(*ramp)))
    sources = [put("good.safetensors", good), os.path.join(SCRATCH, "good.npz")]
    sources += glob.glob(os.path.join(DATA, "hdf5", "zinc_encoder.h5"))
    for source in sources:
        with open(source, "rb") as f:
            whole = f.read()
        for tenth in range(1, 10):
            yield put("cut%d-%s" % (tenth, os.path.basename(source)),
                      whole[:len(whole) * tenth // 10])
    yield from hdf5_files(ramp)


def npy(descr, shape, data):
    header = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + data


def hdf5_files(ramp):
    try:
        import h5py
    except ImportError:
        return
    path = os.path.join(SCRATCH, "escapes.h5")
    with h5py.File(path, "w") as f:
        f["a\n\x1b[31m<script>$(x)"] = [ramp[:8]] * 8
        f["nan"] = [[float("nan")] * 8] * 8
        f["empty"] = [[]] * 8
        f["loop"] = h5py.SoftLink("/")
        f["dangling"] = h5py.SoftLink("/nowhere")
        f["outside"] = h5py.ExternalLink("/etc/passwd", "/x")
    yield path


# ---- other cases ---------------------------------------------------------------------------

def as_nobody():
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)


def special_cases():
    """(name, problem or None) of what is not about a file's content."""
    good = os.path.join(SCRATCH, "good.safetensors")
    folder = tempfile.mkdtemp(dir=SCRATCH)
    yield "a folder", judge(run(["analyze", folder], folder), (3,))
    yield "no such file", judge(run(["analyze", "nowhere.h5"], folder), (3,))
    with open("/dev/full", "w") as full:
        for arguments in (["analyze", good], ["ls", good], ["metrics"]):
            for form in ("table", "json", "csv"):
                result = run(arguments + ["--format", form], folder, stdout=full)
                result.stdout = b""
                yield "/dev/full %s %s" % (arguments[0], form), judge(result, (3,))
    yield "/dev/full -o", judge(run(["analyze", good, "-o", "/dev/full"], folder), (3,))
    yield "convert to a missing folder", judge(run(["convert", good, "no/where.h5"], folder), (3,))
    locked = shutil.copy(good, os.path.join(folder, "locked.safetensors"))
    os.chmod(locked, 0)
    os.chmod(SCRATCH, 0o755)
    os.chmod(folder, 0o755)
    if os.getuid() == 0:
        # root may read everything, and nobody may not enter root's folders
        program = shutil.copy(MUONSPEC, os.path.join(SCRATCH, "muonspec"))
        denied = subprocess.run([program, "analyze", locked], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, cwd=SCRATCH, preexec_fn=as_nobody)
        yield "no permission", judge(denied, (3,))
    else:
        yield "no permission", judge(run(["analyze", locked], folder), (3,))
    for arguments in (["analyze", good, "--format", "json"], ["metrics"]):
        piped = subprocess.run(["sh", "-c", '"$0" "$@" 2>err; echo $? >status', MUONSPEC]
                               + arguments, cwd=folder, stdout=open_closed_pipe())
        with open(os.path.join(folder, "status")) as f:
            status = f.read().strip()
        with open(os.path.join(folder, "err")) as f:
            message = f.read()
        yield "closed pipe %s" % arguments[0], None if status == "0" and not message else \
            "status %s, %r" % (status, message)
    yield "NaN with --strict", judge(run(
        ["analyze", os.path.join(SCRATCH, "some-nan.safetensors"), "--strict"], folder), (4,))
    rows = {m["name"]: m for m in json.loads(run(
        ["analyze", os.path.join(SCRATCH, "some-nan.safetensors"), "--format", "json"],
        folder).stdout)["matrices"]}
    counted = rows["a.weight"]["status"] == "nonfinite" and rows["b.weight"]["status"] == "ok" and \
        rows["a.weight"]["notes"] == ["2 NaN and 2 Inf among 64 entries"]
    yield "NaN beside a good matrix", None if counted else str(rows)
    # all squares of such numbers leave the range of float32, and of float64 for the last
    for scale in ("1e-38", "1e+38", "1e-300", "1e+300"):
        row = json.loads(run(["analyze", os.path.join(SCRATCH, "scale%s.safetensors" % scale),
                              "--format", "json"], folder).stdout)["matrices"][0]
        base = json.loads(run(["analyze", good, "--format", "json"],
                              folder).stdout)["matrices"][0]
        ratio = row["metrics"]["spectral_norm"] / base["metrics"]["spectral_norm"] / float(scale)
        same = abs(ratio - 1) < 1e-5 and abs(
            row["metrics"]["svd_entropy"] - base["metrics"]["svd_entropy"]) < 1e-5
        yield "entries of size %s" % scale, None if same else str(row)


def open_closed_pipe():
    read, write = os.pipe()
    os.close(read)
    return os.fdopen(write, "wb")


def main():
    files = []
    for folder in ("odd", "text", "raw", "safetensors"):
        files += [p for p in glob.glob(os.path.join(DATA, folder, "**", "*"), recursive=True)
                  if os.path.isfile(p)]
    if not files:
        print("bad_input: no test data in %s; only files made here" % DATA)
    files += list(made_files())
    failed = passed = 0
    with ThreadPoolExecutor(2) as pool:
        for path, problems in zip(files, pool.map(every_verb, files)):
            failed += bool(problems)
            passed += not problems
            for problem in problems:
                print("FAILED %s: %s" % (os.path.relpath(path, DATA), problem))
    for name, problem in special_cases():
        failed += bool(problem)
        passed += not problem
        if problem:
            print("FAILED %s: %s" % (name, problem))
    print("bad_input: %d files under eleven commands each, and %d other cases" % (
        len(files), failed + passed - len(files)))
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


SCRATCH = tempfile.mkdtemp(prefix="muonspec-bad-")
try:
    status = main()
finally:
    shutil.rmtree(SCRATCH, ignore_errors=True)
sys.exit(status)
