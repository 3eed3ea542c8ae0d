#!/usr/bin/python3
"""The same tensors give the same report in every format, and survive every conversion bit for bit.

usage: same_report.py MUONSPEC DATA_FOLDER

Writes and reads the files with checkpoints.py. Needs python3-numpy and python3-h5py; skips without
them. A checkpoint of the test data more or less is no failure; without any they are skipped."""
import json
import os
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
try:
    import h5py
    import numpy as np

    import checkpoints
    from checkpoints import Tensor, from_array
except ImportError:
    print("same_report: python3-numpy or python3-h5py is not installed")
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(0)

MUONSPEC, DATA = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
HERE = os.path.dirname(os.path.abspath(__file__))
EXAMPLE = os.path.join(HERE, "..", "notebooks-data", "example")
SCRATCH = tempfile.mkdtemp(prefix="muonspec-same-")


class Failure(Exception):
    pass


def expect(condition, *what):
    if not condition:
        raise Failure(" ".join(str(w) for w in what))


def muonspec(*arguments):
    result = subprocess.run([MUONSPEC] + list(arguments), stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, timeout=60)
    return result.returncode, result.stdout.decode(), result.stderr.decode().strip()


def analyze(path, *options):
    """The report; numbers compare as they are written, so that equal means the same bits."""
    status, out, err = muonspec("analyze", path, "--format", "json", *options)
    expect(status == 0, "exit status", status, err)
    return json.loads(out, parse_float=lambda text: ("number", text))


def file(name):
    return os.path.join(SCRATCH, name)


# ---- tensors -------------------------------------------------------------------------------

def random(shape, dtype, seed):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def made_tensors():
    """Every shape and every type that all of HDF5, safetensors and npz have."""
    shapes = {"layers.0.mlp.up_proj.weight": (60, 24), "layers.0.mlp.down_proj.weight": (24, 60),
              "layers.10.attn.q_proj.weight": (24, 24), "layers.2.attn.k_proj.weight": (8, 24),
              "features.3.conv.weight": (8, 4, 3, 3), "layers.2.mlp.experts.w1": (4, 12, 10),
              "row.weight": (1, 40), "column.weight": (40, 1), "norm.weight": (24,),
              "scale.weight": ()}
    arrays = {}
    for i, dtype in enumerate(("f8", "f4", "f2")):
        for k, (name, shape) in enumerate(shapes.items()):
            arrays["%s.%s" % (dtype, name)] = random(shape, dtype, 100 * i + k)
    arrays["counts"] = np.arange(12).reshape(3, 4)
    arrays["mask"] = np.arange(12).reshape(3, 4) % 3 == 0
    arrays["empty.weight"] = np.zeros((0, 5), "f4")
    arrays["nan.weight"] = np.full((4, 4), np.nan, "f4")
    return arrays


def bits16(x):
    """Nearest-below bf16 of float32 numbers, as uint16."""
    return (np.ascontiguousarray(x, "<f4").view("<u4") >> 16).astype("<u2")


def same_reports(report, other, but=("path", "format")):
    for part in ("matrices", "groups", "skipped"):
        expect(len(report[part]) == len(other[part]), "number of", part)
        for a, b in zip(report[part], other[part]):
            expect(a == b, a, "\n    differs from", b)
    for key in set(report["checkpoint"]) - set(but):
        expect(report["checkpoint"][key] == other["checkpoint"][key], key, "of the checkpoint")


# ---- cases ---------------------------------------------------------------------------------

def case_formats():
    """HDF5, safetensors and npz."""
    arrays = made_tensors()
    with h5py.File(file("same.h5"), "w") as f:
        for name, x in arrays.items():
            f[name] = x
    checkpoints.write_safetensors(file("same.safetensors"),
                                  {k: from_array(x) for k, x in arrays.items()})
    np.savez(file("same.npz"), **arrays)
    np.savez_compressed(file("packed.npz"), **arrays)
    np.savez(file("fortran.npz"), **{
        k: np.asfortranarray(x) if x.ndim > 1 else x for k, x in arrays.items()})
    reference = analyze(file("same.h5"))
    ok = sum(m["status"] == "ok" for m in reference["matrices"])
    expect(ok == 3 * (5 + 4 + 2), "analyzed", ok)
    for name in ("same.safetensors", "same.npz", "packed.npz", "fortran.npz"):
        same_reports(analyze(file(name)), reference)


def case_rows():
    """What the rows are: a convolution flattened, experts one by one."""
    report = analyze(file("same.h5"), "--metrics", "frobenius_norm")
    arrays = made_tensors()
    rows = {m["name"]: m for m in report["matrices"]}
    conv, expert = rows["f8.features.3.conv.weight"], rows["f8.layers.2.mlp.experts.w1[3]"]
    expect((conv["rows"], conv["cols"], conv["group"]) == (8, 36, "Conv"), conv)
    expect((expert["rows"], expert["cols"], expert["slice"]) == (12, 10, "3"), expert)
    expect(abs(float(expert["metrics"]["frobenius_norm"][1]) -
               np.linalg.norm(arrays[expert["tensor"]][3])) < 1e-12, expert)


def create(f, name, stored, raw, **properties):
    """A dataset of the low-level type `stored` whose elements are the bytes of `raw`."""
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    if properties.get("packed"):
        plist.set_chunk((7, 11))
        plist.set_shuffle()
        plist.set_deflate(5)
        plist.set_fletcher32()
    dataset = h5py.h5d.create(f.id, name.encode(), stored, h5py.h5s.create_simple(raw.shape),
                              dcpl=plist)
    dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.ascontiguousarray(raw), mtype=stored)
    if "label" in properties:
        f[name].attrs["dtype"] = properties["label"]


def bf16_type(order):
    stored = h5py.h5t.IEEE_F32LE.copy()
    stored.set_fields(*checkpoints.BF16_FIELDS)
    stored.set_size(2)
    stored.set_ebias(127)
    stored.set_order(order)
    return stored


def write_bf16_forms(path, bits):
    """The same numbers in every form in which HDF5 holds bf16, and how many."""
    swapped = bits.byteswap()
    little, big = h5py.h5t.ORDER_LE, h5py.h5t.ORDER_BE
    forms = [(bf16_type(little), bits, {}), (bf16_type(big), swapped, {}),
             (h5py.h5t.STD_U16LE, bits, {"label": "bfloat16"}),
             (h5py.h5t.STD_U16BE, swapped, {"label": "bfloat16"}),
             (h5py.h5t.create(h5py.h5t.OPAQUE, 2), bits, {"label": "bfloat16"})]
    with h5py.File(path, "w") as f:
        for i, (stored, raw, properties) in enumerate(forms):
            create(f, "form%d.weight" % i, stored, raw, **properties)
            create(f, "form%d.packed" % i, stored, raw, packed=True, **properties)
        f["form9.weight"] = bits  # no label: integers, and no matrix
    return 2 * len(forms)


def case_bf16():
    """bf16 in HDF5 as custom float type, opaque or uint16; both byte orders; packed."""
    bits = bits16(random((40, 26), "f4", 7))
    count = write_bf16_forms(file("bf16.h5"), bits)
    checkpoints.write_safetensors(file("bf16.safetensors"),
                                  {"form0.weight": Tensor("bf16", bits.shape, bits.tobytes())})
    expected = analyze(file("bf16.safetensors"))["matrices"][0]
    report = analyze(file("bf16.h5"))
    expect(len(report["matrices"]) == count, len(report["matrices"]), "matrices")
    for m in report["matrices"]:
        for key in ("metrics", "rows", "cols", "dtype", "status"):
            expect(m[key] == expected[key], m["name"], key, m[key])
    expect([s["tensor"] for s in report["skipped"]] == ["form9.weight"], report["skipped"])
    # through h5py alone, so that checkpoints.py is known to read them
    for name, tensor in checkpoints.read(file("bf16.h5")).items():
        wanted = "u16" if name == "form9.weight" else "bf16"
        expect(tensor == Tensor(wanted, bits.shape, bits.tobytes()), "checkpoints.py on", name)


def case_storage():
    """Byte orders, chunks, filters and layouts of HDF5 don't show in the report."""
    for dtype in ("f8", "f4", "f2"):
        x = random((40, 26), dtype, 3)
        with h5py.File(file("storage.h5"), "w") as f:
            f["w0.weight"] = x
            f["w1.weight"] = x.astype(x.dtype.newbyteorder(">"))
            f.create_dataset("w2.weight", data=x, chunks=(7, 11), compression="gzip", shuffle=True)
            f.create_dataset("w3.weight", data=x.astype(x.dtype.newbyteorder(">")), chunks=(40, 5),
                             compression="gzip", fletcher32=True)
            f.create_dataset("w4.weight", data=x, chunks=(3, 26), maxshape=(None, None))
            f.create_dataset("w5.weight", data=x, chunks=(1, 26))
            compact = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            compact.set_layout(h5py.h5d.COMPACT)
            d = h5py.h5d.create(f.id, b"w6.weight", h5py.h5t.py_create(x.dtype),
                                h5py.h5s.create_simple(x.shape), dcpl=compact)
            d.write(h5py.h5s.ALL, h5py.h5s.ALL, x)
            f["group/w7.weight"] = x
        rows = analyze(file("storage.h5"))["matrices"]
        first = next(m for m in rows if m["name"] == "w0.weight")
        expect(first["status"] == "ok" and len(rows) == 8, dtype, first["status"], len(rows))
        for m in rows:
            expect(m["metrics"] == first["metrics"], dtype, m["name"], m["status"], m.get("notes"))


def case_threads():
    """One worker or more: the same report but for their number."""
    paths = [os.path.join(EXAMPLE, "step-001600.h5"), file("same.h5")]
    paths += [p for p in checkpoints.paths_in(DATA) if "fer2013" in p][:1]
    for path in paths:
        one, two, five = (analyze(path, "--threads", n) for n in "125")
        expect(one["tool"].pop("threads") == 1 and two["tool"].pop("threads") == 2, "threads")
        five["tool"].pop("threads")
        expect(one == two == five, os.path.basename(path))


def convert(source, target):
    status, out, err = muonspec("convert", source, file(target))
    expect(status == 0 and not out and not err, "convert to", target, "status", status, err)
    return file(target)


def same_tensors(path, expected):
    found = checkpoints.read(path)
    for name, tensor in expected.items():
        expect(name in found, "lost", name, "in", os.path.basename(path))
        expect(found[name][:2] == tensor[:2], name, "is", found[name][:2], "was", tensor[:2])
        expect(found[name].raw == tensor.raw, name, "has other bits")
    return set(found)


def round_trip(path):
    """There and back, in both formats; the report stays as it is."""
    expected = checkpoints.read(path)
    first = convert(path, "trip1.safetensors")
    names = same_tensors(first, expected)
    second = convert(first, "trip2.h5")
    expect(same_tensors(second, expected) == names, "tensors differ")
    third = convert(second, "trip3.safetensors")
    expect(same_tensors(convert(path, "trip4.h5"), expected) == names, "tensors differ")
    metrics = ("--metrics", "rms,mean")
    report = analyze(path, *metrics)
    if not report["checkpoint"]["layout"].startswith("keras"):
        # Keras' own files are in the order of the layers, which no copy keeps
        with open(first, "rb") as a, open(third, "rb") as b:
            expect(a.read() == b.read(), "the two safetensors differ")
    for copy in (first, second, file("trip4.h5")):
        other = analyze(copy, *metrics)
        expect({m["name"]: m for m in other["matrices"]} ==
               {m["name"]: m for m in report["matrices"]}, "another report of",
               os.path.basename(copy))
    return len(expected)


def case_convert_made():
    """Conversion of every type that both formats have, numbers and NaN of all kinds."""
    bits = np.arange(1 << 16, dtype="<u2")
    tensors = {k: from_array(x) for k, x in made_tensors().items()}
    tensors["all.bf16"] = Tensor("bf16", (256, 256), bits.tobytes())
    tensors["all.f16"] = Tensor("f16", (256, 256), bits.tobytes())
    tensors["all.f8_e4m3"] = Tensor("f8_e4m3", (16, 16), bytes(range(256)))
    tensors["all.f8_e5m2"] = Tensor("f8_e5m2", (16, 16), bytes(range(256)))
    for dtype in ("i64", "i32", "i16", "i8", "u64", "u32", "u16", "u8"):
        tensors["all." + dtype] = Tensor(dtype, (3, 5, 8), bits.tobytes()[
            :120 * np.dtype(checkpoints.NUMPY[dtype]).itemsize])
    for dtype in ("f64", "f32"):
        tensors["any." + dtype] = Tensor(dtype, (8, 8), bits[30000:].tobytes()[
            :64 * np.dtype(checkpoints.NUMPY[dtype]).itemsize])
    tensors["größe \" \\ \n.weight"] = tensors["all.f8_e4m3"]
    checkpoints.write_safetensors(file("every.safetensors"), tensors)
    round_trip(file("every.safetensors"))
    round_trip(file("bf16.h5"))
    round_trip(file("storage.h5"))
    round_trip(os.path.join(EXAMPLE, "step-000400.h5"))


def case_convert_data():
    """Conversion of the checkpoints of the test data."""
    count = 0
    for path in checkpoints.paths_in(DATA):
        try:
            count += round_trip(path)
        except Failure as failure:
            raise Failure("%s: %s" % (os.path.relpath(path, DATA), failure)) from None
    print("same_report: %d tensors of the test data there and back" % count)


def read_spectra(path):
    """As the README says."""
    try:
        from pandas import DataFrame
    except ImportError:
        DataFrame = dict
    with h5py.File(path) as f:
        m = DataFrame({k: v.asstr()[:] if h5py.check_string_dtype(v.dtype) else v[:]
                       for k, v in f["matrices"].items()})
        return m, f["singular_values"][:], dict(f.attrs)


def case_spectra():
    """-o spectra.h5: all the columns, and the singular values that NumPy finds."""
    path, spectra = os.path.join(EXAMPLE, "step-000100.h5"), file("spectra.h5")
    rows = analyze(path, "-o", spectra)["matrices"]
    m, s, attributes = read_spectra(spectra)
    tensors = checkpoints.read(path)
    expect(attributes["schema"] == "muonspec/spectra/1" and attributes["step"] == 100, attributes)
    expect(len(m["name"]) == len(rows), "rows")
    for i, row in enumerate(rows):
        for key in ("name", "tensor", "group", "dtype", "status", "rows", "cols"):
            expect(m[key][i] == row[key], key, m[key][i])
        expect(m["slice"][i] == (row["slice"] or ""), "slice", m["slice"][i])
        for metric, number in row["metrics"].items():
            wanted = np.nan if number is None else float(
                number[1] if isinstance(number, tuple) else number)
            expect(np.array_equal(m[metric][i], wanted, equal_nan=True), row["name"], metric)
        sigma = s[m["offset"][i]:m["offset"][i] + m["count"][i]]
        expected = np.linalg.svd(checkpoints.values(tensors[row["tensor"]]), compute_uv=False)
        expect(sigma.shape == expected.shape, row["name"], sigma.shape)
        expect(np.abs(sigma - expected).max() <= 1e-9 * expected[0], row["name"], "sigma")
    expect(len(s) == sum(m["count"]), "singular values beyond the last matrix")


CASES = (case_formats, case_rows, case_bf16, case_storage, case_threads, case_convert_made,
         case_convert_data, case_spectra)  # later ones use files of earlier ones


def main():
    failed = skipped = 0
    for case in CASES:
        if case is case_convert_data and not checkpoints.paths_in(DATA):
            print("same_report: no checkpoints in %s" % DATA)
            skipped += 1
            continue
        try:
            case()
        except Failure as failure:
            failed += 1
            print("FAILED %s %s\n    %s" % (case.__name__, case.__doc__, str(failure)[:2000]))
    print("%d passed, %d failed%s" % (len(CASES) - failed - skipped, failed,
                                      ", %d skipped" % skipped if skipped else ""))
    return 1 if failed else 0


try:
    status = main()
finally:
    shutil.rmtree(SCRATCH, ignore_errors=True)
sys.exit(status)
