"""Checkpoints read and written with h5py, NumPy and a few lines of our own, for the tests: nothing
of muonspec's readers is trusted. Needs python3-numpy and python3-h5py."""
import glob
import json
import os
from collections import namedtuple

import h5py
import numpy as np

# dtype: as muonspec calls it, None where elements are not numbers that it knows; raw: bytes of the
# elements, little-endian, row-major
Tensor = namedtuple("Tensor", "dtype shape raw")

NUMPY = {"f64": "<f8", "f32": "<f4", "f16": "<f2", "i64": "<i8", "i32": "<i4", "i16": "<i2",
         "i8": "i1", "u64": "<u8", "u32": "<u4", "u16": "<u2", "u8": "u1", "bool": "?"}
SAFETENSORS = {"f64": "F64", "f32": "F32", "f16": "F16", "bf16": "BF16", "f8_e4m3": "F8_E4M3",
               "f8_e5m2": "F8_E5M2", "i64": "I64", "i32": "I32", "i16": "I16", "i8": "I8",
               "u64": "U64", "u32": "U32", "u16": "U16", "u8": "U8", "bool": "BOOL"}
LABELS = {"bfloat16": "bf16", "float8_e4m3fn": "f8_e4m3", "float8_e5m2": "f8_e5m2"}
BF16_FIELDS = (15, 7, 8, 0, 7)  # sign, exponent at and bits, mantissa at and bits
IEEE_FIELDS = {8: ("f64", (63, 52, 11, 0, 52)), 4: ("f32", (31, 23, 8, 0, 23)),
               2: ("f16", (15, 10, 5, 0, 10))}


# ---- values --------------------------------------------------------------------------------

def float8(raw, exponent_bits, mantissa_bits, bias):
    """Decode OCP FP8 by the definition of its fields."""
    x = raw.astype(np.int64)
    mantissa = x & ((1 << mantissa_bits) - 1)
    exponent = (x >> mantissa_bits) & ((1 << exponent_bits) - 1)
    sign = np.where(x & 0x80, -1.0, 1.0)
    scale = 2.0 ** mantissa_bits
    value = np.where(exponent == 0, mantissa / scale * 2.0 ** (1 - bias),
                     (1 + mantissa / scale) * 2.0 ** (exponent.astype(float) - bias))
    if mantissa_bits == 3:  # e4m3fn: only S.1111.111 is special
        value = np.where((x & 0x7f) == 0x7f, np.nan, value)
    else:
        value = np.where(exponent == 31, np.where(mantissa, np.nan, np.inf), value)
    return sign * value


def values(tensor):
    """A float tensor as float64; None for others."""
    if tensor.dtype in ("f64", "f32", "f16"):
        x = np.frombuffer(tensor.raw, NUMPY[tensor.dtype])
    elif tensor.dtype == "bf16":
        x = (np.frombuffer(tensor.raw, "<u2").astype(np.uint32) << 16).view(np.float32)
    elif tensor.dtype == "f8_e4m3":
        x = float8(np.frombuffer(tensor.raw, np.uint8), 4, 3, 7)
    elif tensor.dtype == "f8_e5m2":
        x = float8(np.frombuffer(tensor.raw, np.uint8), 5, 2, 15)
    else:
        return None
    return x.astype(np.float64).reshape(tensor.shape)


def from_array(array, dtype=None):
    """A tensor out of a NumPy array; `dtype` where NumPy has no such type."""
    array = np.ascontiguousarray(array).reshape(array.shape)
    little = array.astype(array.dtype.newbyteorder("<"))
    names = {np.dtype(v): k for k, v in NUMPY.items()}
    return Tensor(dtype or names.get(little.dtype), array.shape, little.tobytes())


# ---- HDF5 ----------------------------------------------------------------------------------

def hdf5_dtype(dataset):
    """Label of the stored type, by its fields and not by what h5py makes of it."""
    stored = dataset.id.get_type()
    size = stored.get_size()
    label = LABELS.get(dataset.attrs.get("dtype"))
    if isinstance(stored, h5py.h5t.TypeFloatID):
        if size == 2 and stored.get_fields() == BF16_FIELDS:
            return "bf16"
        name, fields = IEEE_FIELDS.get(size, (None, None))
        return name if stored.get_fields() == fields else None
    if isinstance(stored, h5py.h5t.TypeOpaqueID):
        return label if label and size == (2 if label == "bf16" else 1) else None
    if isinstance(stored, h5py.h5t.TypeEnumID):
        return "bool" if dataset.dtype == np.bool_ else None
    if isinstance(stored, h5py.h5t.TypeIntegerID):
        return label or dataset.dtype.kind + str(8 * size)
    return None


def read_dataset(dataset):
    dtype = hdf5_dtype(dataset)
    if dtype is None or dataset.shape is None:
        return Tensor(None, dataset.shape, b"")
    stored = dataset.id.get_type()
    size = stored.get_size()
    raw = np.empty(dataset.shape, "V%d" % size)
    if raw.size:
        dataset.id.read(h5py.h5s.ALL, h5py.h5s.ALL, raw, mtype=stored)
    raw = np.frombuffer(raw.tobytes(), np.uint8).reshape(-1, size)
    if hasattr(stored, "get_order") and stored.get_order() == h5py.h5t.ORDER_BE:
        raw = raw[:, ::-1]
    return Tensor(dtype, dataset.shape, raw.tobytes())


def read_hdf5(path):
    tensors = {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            tensors[name] = read_dataset(item)
    with h5py.File(path, "r") as f:
        f.visititems(visit)
    return tensors


# ---- safetensors ---------------------------------------------------------------------------

def read_safetensors(path):
    labels = {v: k for k, v in SAFETENSORS.items()}
    with open(path, "rb") as f:
        blob = f.read()
    length = int.from_bytes(blob[:8], "little")
    header, data = json.loads(blob[8:8 + length]), blob[8 + length:]
    return {name: Tensor(labels.get(entry["dtype"]), tuple(entry["shape"]),
                         data[slice(*entry["data_offsets"])])
            for name, entry in header.items() if name != "__metadata__"}


def write_safetensors(path, tensors):
    header, data = {}, b""
    for name, t in tensors.items():
        header[name] = {"dtype": SAFETENSORS[t.dtype], "shape": list(t.shape),
                        "data_offsets": [len(data), len(data) + len(t.raw)]}
        data += t.raw
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(len(text).to_bytes(8, "little") + text + data)


# ---- any -----------------------------------------------------------------------------------

def read(path):
    """Every tensor of a checkpoint by its name."""
    if path.endswith(".index.json"):
        with open(path) as f:
            shards = set(json.load(f)["weight_map"].values())
        merged = {}
        for shard in shards:
            merged.update(read_safetensors(os.path.join(os.path.dirname(path), shard)))
        return merged
    if path.lower().endswith(".safetensors"):
        return read_safetensors(path)
    if path.endswith(".npz"):
        with np.load(path) as f:
            return {k: from_array(f[k]) for k in f}
    return read_hdf5(path)


def paths_in(data):
    """The checkpoints of the test data."""
    paths = []
    for folder in ("hdf5", "safetensors", "npz", "series-fer2013", "series-lstm-aiw"):
        for ending in ("h5", "hdf5", "safetensors", "index.json", "npz"):
            paths += glob.glob(os.path.join(data, folder, "**", "*." + ending), recursive=True)
    return sorted(paths)
