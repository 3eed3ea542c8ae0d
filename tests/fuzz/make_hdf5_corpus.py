#!/usr/bin/python3
"""Makes tests/fuzz/corpus/hdf5: seeds of the fuzz target and inputs of tests/unit/checkpoint.

The files are kept in the repository; run this (h5py 3.7, HDF5 1.10) only to change them.
Element i of a dataset is 7 i mod 31 - 15, which every type holds exactly (mod 31 where unsigned,
i mod 2 for booleans), unless said otherwise."""
import os
import shutil
import sys

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5l, h5p, h5s, h5t

FOLDER = sys.argv[1] if len(sys.argv) > 1 else "tests/fuzz/corpus/hdf5"


def values(shape, dtype="f4"):
    i = np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape)
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return (i % 2).astype(bool)
    return (7 * i % 31 - (0 if dtype.kind == "u" else 15)).astype(dtype)


def bf16_bits(shape):
    return (values(shape, "<f4").view("<u4") >> 16).astype("<u2")


def create(name, **options):
    return h5py.File(os.path.join(FOLDER, name), "w", **options)


def float_type(size, sign, exponent, exponent_size, mantissa, mantissa_size, bias, order="<"):
    t = (h5t.IEEE_F32LE if order == "<" else h5t.IEEE_F32BE).copy()
    t.set_fields(sign, exponent, exponent_size, mantissa, mantissa_size)
    t.set_size(size)
    t.set_ebias(bias)
    return t


def raw(group, name, type_id, array, shape):
    """A dataset whose bytes are those of `array`, whatever the type."""
    d = h5d.create(group.id, name.encode(), type_id, h5s.create_simple(shape))
    d.write(h5s.ALL, h5s.ALL, np.ascontiguousarray(array), mtype=type_id)
    return group[name]


def plain():
    with create("plain.h5") as f:
        for kind in ["f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1"]:
            f["le/" + kind] = values((3, 4), "<" + kind)
            f["be/" + kind] = values((3, 4), ">" + kind)
        f["bool"] = values((3, 4), "?")
        f["scalar"] = np.float32(-15)
        f["empty"] = np.zeros((3, 0, 2), "f4")
        f["rank32"] = values((1,) * 30 + (2, 3))


def narrow():
    with create("narrow.h5") as f:
        bits = bf16_bits((3, 4))
        raw(f, "bf16", float_type(2, 15, 7, 8, 0, 7, 127), bits, (3, 4))
        raw(f, "bf16_be", float_type(2, 15, 7, 8, 0, 7, 127, ">"), bits.astype(">u2"), (3, 4))
        opaque = h5t.create(h5t.OPAQUE, 2)
        raw(f, "opaque_labelled", opaque, bits, (3, 4)).attrs["dtype"] = "bfloat16"
        raw(f, "opaque", opaque, bits, (3, 4))
        f["uint16_labelled"] = bits
        f["uint16_labelled"].attrs["dtype"] = np.bytes_("bfloat16")
        f["uint16_be_labelled"] = bits.astype(">u2")
        f["uint16_be_labelled"].attrs["dtype"] = "bfloat16"
        f["uint16"] = bits
        f["uint16_mislabelled"] = bits
        f["uint16_mislabelled"].attrs["dtype"] = "float8_e5m2"
        f["e4m3_labelled"] = np.arange(256, dtype="u1")
        f["e4m3_labelled"].attrs["dtype"] = "float8_e4m3fn"
        f["e5m2_labelled"] = np.arange(256, dtype="u1")
        f["e5m2_labelled"].attrs["dtype"] = "float8_e5m2"
        raw(f, "e5m2", float_type(1, 7, 2, 5, 0, 2, 15), np.arange(256, dtype="u1"), (256,))
        f["f4_labelled"] = values((3, 4))
        f["f4_labelled"].attrs["dtype"] = "bfloat16"
        raw(f, "odd_bias", float_type(2, 15, 7, 8, 0, 7, 126), bits, (3, 4))


def others():
    """What is not a number, and what is not stored."""
    with create("others.h5") as f:
        f["string"] = np.array([b"ab", b"c"], "S4")
        f["text"] = "of any length"
        f["complex"] = np.array([1 + 2j], "c8")
        f["enum"] = np.array([1], dtype=h5py.enum_dtype({"A": 1, "B": 2}, "i4"))
        f.create_dataset("vlen", (1,), dtype=h5py.vlen_dtype("i4"))[0] = [1, 2, 3]
        f.create_dataset("reference", (1,), dtype=h5py.ref_dtype)[0] = f["string"].ref
        raw(f, "opaque21", h5t.create(h5t.OPAQUE, 21), np.zeros((2, 21), "u1"), (2,))
        raw(f, "array", h5t.array_create(h5t.STD_I32LE, (3,)), np.zeros((2, 3), "<i4"), (2,))
        raw(f, "bitfield", h5t.STD_B8LE, np.zeros(3, "u1"), (3,))
        f["longdouble"] = np.zeros(2, np.longdouble)
        t = h5t.STD_I32LE.copy()
        t.set_precision(17)
        raw(f, "int17", t, np.zeros(3, "<i4"), (3,))
        f["null"] = h5py.Empty("f4")
        f.create_dataset("unwritten", (3, 4), "f4")
        f.create_dataset("unwritten_chunks", (3, 4), "f4", chunks=(1, 4))
        f.create_dataset("huge", (1 << 40, 1 << 40), "f4", chunks=(1, 4))
        f.create_dataset("absurd", (1 << 20, 1 << 20), "f4", chunks=(1, 4), compression="gzip")
        f["absurd"][0, 0] = 1


def chunked():
    with create("chunked.h5") as f:
        v = values((5, 6, 7), ">f4")
        f.create_dataset("gzip", data=v, chunks=(2, 4, 3), compression="gzip", shuffle=True)
        f.create_dataset("fletcher32", data=v, chunks=(5, 6, 7), fletcher32=True)
        f.create_dataset("plain", data=v, chunks=(1, 6, 2), maxshape=(None, 6, 7))
        f.create_dataset("lzf", data=v, chunks=(5, 6, 7), compression="lzf")
        sparse = f.create_dataset("sparse", (4, 4), "f4", chunks=(2, 2), fillvalue=9)
        sparse[0, :] = values((4,))
        compact = h5p.create(h5p.DATASET_CREATE)
        compact.set_layout(h5d.COMPACT)
        d = h5d.create(f.id, b"compact", h5t.IEEE_F32LE, h5s.create_simple((3, 4)), compact)
        d.write(h5s.ALL, h5s.ALL, values((3, 4)))
        wide = h5p.create(h5p.DATASET_CREATE)
        wide.set_chunk((1 << 14, 1 << 14))
        h5d.create(f.id, b"wide_chunks", h5t.IEEE_F32LE,
                   h5s.create_simple((3, 4), (h5s.UNLIMITED, h5s.UNLIMITED)), wide)


def links():
    with create("links.h5") as f:
        f["z/w"] = values((3, 4))
        f["a_hard"] = f["z/w"]
        f["a_soft"] = h5py.SoftLink("/z/w")
        f["dangling"] = h5py.SoftLink("/z/none")
        f["z/up"] = f["/"]
        f["z/loop"] = h5py.SoftLink("/z")
        f["circle"] = h5py.SoftLink("/circle")
        f["type"] = np.dtype("f4")
        f["typed"] = h5py.Empty(f["type"])
        f["inside"] = h5py.ExternalLink("plain.h5", "/le")
        f["inside_one"] = h5py.ExternalLink("plain.h5", "be/f4")
        f["outside"] = h5py.ExternalLink("../outside.h5", "/w")
        f["through"] = h5py.SoftLink("/outside")
        f["missing"] = h5py.ExternalLink("none.h5", "/w")
        f["itself"] = h5py.ExternalLink("links.h5", "/")
        f["odd\n\u202ename"] = np.float32(1)
        group = f
        for _ in range(70):
            group = group.create_group("d")
        group["w"] = np.float32(1)


def keras():
    def layer(group, name, *weights):
        g = group.create_group(name)
        g.attrs["weight_names"] = np.array([w.encode() for w in weights], "S")
        for w in weights:
            g[w] = values((3, 4))

    names = ["input_1", "dense_2", "dense_10", "block/conv", "dense_1"]
    with create("keras2.h5") as f:
        f.attrs["keras_version"] = np.bytes_("2.2.4-tf")
        f.attrs["backend"] = np.bytes_("tensorflow")
        g = f.create_group("model_weights")
        g.attrs["keras_version"] = np.bytes_("2.2.4-tf")
        g.attrs["layer_names0"] = np.array([n.encode() for n in names[:2]])
        g.attrs["layer_names1"] = np.array([n.encode() for n in names[2:]])
        g.create_group("input_1").attrs["weight_names"] = np.zeros(0, "f8")
        for n in names[1:]:
            layer(g, n, n + "/kernel:0", n + "/bias:0")
        f["optimizer_weights/training/Adam/Variable:0"] = values((3, 4))
    with create("keras1.h5") as f:
        f.attrs["layer_names"] = np.array(["convolution2d_2", "convolution2d_1"], object)
        for n in ["convolution2d_1", "convolution2d_2"]:
            layer(f, n, n + "_W")
    with create("keras3.h5") as f:
        for n in ["dense", "dense_1", "lstm/cell"]:
            for i in range(11):
                f["layers/%s/vars/%d" % (n, i)] = values((2, 2))
        f.create_group("layers/dropout/vars")
        f["optimizer/vars/0"] = np.int64(3)
        f["optimizer/vars/1"] = values((2, 2))


def metadata():
    with create("muonspec.h5") as f:
        f.attrs.update({"muonspec_format": 1, "step": np.uint8(200), "optimizer": "muon",
                        "lr": np.float16(0.5), "weight_decay": np.array([0.125], ">f8"),
                        "tokens": 10**12, "loss": "low"})
        f["blocks.10.attn.q.weight"] = values((4, 4))
        f["blocks.2.attn.q.weight"] = values((4, 4))
        f["optimizer/momentum/blocks.2.attn.q.weight"] = values((4, 4))
        f["activations/output_rms"] = values((2,))
    with create("pytorch.h5") as f:
        f["layers.0.weight"] = values((4, 4))
        f["layers.0.bias"] = values((4,))
        f["optimizer.state.0.exp_avg"] = values((4, 4))
        f.attrs["optimizer"] = np.array([b"two", b"names"])
        f.attrs["step"] = np.arange(3)
    with create("converted.h5") as f:
        f.attrs["muonspec_layout"] = "keras2"
        f["dense/dense/kernel:0"] = values((4, 4))


def forms():
    """The same in other forms of the file."""
    with create("userblock.h5", userblock_size=1024) as f:
        f["w"] = values((3, 4))
        f.create_dataset("c", data=values((3, 4)), chunks=(2, 2), compression="gzip")
    with create("latest.h5", libver="latest") as f:
        g = f.create_group("dense_group", track_order=True)
        for i in range(20):
            g["w%d" % i] = values((2, 2))
            g.attrs["a%d" % i] = i
        f.create_dataset("c", data=values((3, 4)), chunks=(2, 2), maxshape=(None, None))
    with create("virtual.h5") as f:
        layout = h5py.VirtualLayout((2, 3, 4), "f4")
        layout[0] = h5py.VirtualSource("plain.h5", "le/f4", (3, 4))
        layout[1] = h5py.VirtualSource(".", "w", (3, 4))
        f["w"] = values((3, 4))
        f.create_virtual_dataset("good", layout)
        for name, file, source in [("missing", "none.h5", "w"), ("no_source", "plain.h5", "none"),
                                   ("outside", "../outside.h5", "w"), ("nested", ".", "good")]:
            layout = h5py.VirtualLayout((3, 4), "f4")
            layout[:] = h5py.VirtualSource(file, source, (3, 4))
            f.create_virtual_dataset(name, layout)
    values((14,)).tofile(os.path.join(FOLDER, "external.raw"))
    with create("external.h5") as f:
        f.create_dataset("good", (3, 4), "f4", external=[("external.raw", 8, 20),
                                                         ("external.raw", 28, 28)])
        f.create_dataset("short", (3, 4), "f4", external=[("external.raw", 16, 48)])
        f.create_dataset("outside", (3, 4), "f4", external=[("../outside.raw", 0, 48)])


def broken():
    def path(name):
        return os.path.join(FOLDER, name)

    with create("swmr.h5", libver="latest") as f:
        f["w"] = values((3, 4))
        f.swmr_mode = True
        f.flush()
        shutil.copy(path("swmr.h5"), path("writing.h5"))
    os.unlink(path("swmr.h5"))
    with create("lying.h5") as f:
        f["w"] = values((3, 1021))
    data = open(path("lying.h5"), "rb").read()

    def replaced(data, old, new):
        old, new = np.array(old, "<u8").tobytes(), np.array(new, "<u8").tobytes()
        assert data.count(old) == 1
        return data.replace(old, new)

    shape, size = [3, 1021, 3, 1021], [3 * 1021 * 4]  # with the largest it may grow to
    open(path("lying.h5"), "wb").write(replaced(data, shape, [3, 1022, 3, 1022]))
    lie = replaced(replaced(data, shape, [3, 1 << 38, 3, 1 << 38]), size, [3 << 40])
    open(path("lying_twice.h5"), "wb").write(lie)
    open(path("truncated.h5"), "wb").write(data[:1500])
    open(path("no_root.h5"), "wb").write(data[:96] + bytes(len(data) - 96))


os.makedirs(FOLDER, exist_ok=True)
for make in [plain, narrow, others, chunked, links, keras, metadata, forms, broken]:
    make()
