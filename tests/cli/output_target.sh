# no file that the checkpoint is read from is written over
two()
{
	printf 'abcdefgh' | safetensors "{\"$1\":{\"dtype\":\"F16\",\"shape\":[2,2],\"data_offsets\":[0,8]}}"
}
mkdir sharded
two first.weight >sharded/m-1.safetensors
two second.weight >sharded/m-2.safetensors
echo '{"weight_map":{"first.weight":"m-1.safetensors","second.weight":"m-2.safetensors"}}' \
	>sharded/model.safetensors.index.json
echo 'MLP *' >groups
cat sharded/* groups | cksum >before
ln sharded/m-2.safetensors other-name.safetensors
run convert sharded sharded/m-1.safetensors
run convert sharded/model.safetensors.index.json sharded/../sharded/m-2.safetensors
run convert sharded other-name.safetensors
run analyze -o sharded/model.safetensors.index.json sharded
run analyze --groups groups -o groups sharded
cat sharded/* groups | cksum | cmp - before && echo 'all as they were'
run convert sharded sharded/whole.safetensors
ls sharded

# also those that an HDF5 file refers to: raw data, a linked and a virtual dataset's file
/usr/bin/python3 -c '
import h5py, numpy
x = numpy.arange(16, dtype="f4").reshape(4, 4)
for name in "linked", "source":
    with h5py.File(name + ".h5", "w") as f:
        f["w"] = x
with h5py.File("whole.h5", "w") as f:
    f["own"] = x
    f["link"] = h5py.ExternalLink("linked.h5", "w")
    f.create_dataset("raw", data=x, external=[("raw.h5", 0, h5py.h5f.UNLIMITED)])
    layout = h5py.VirtualLayout(shape=(4, 4), dtype="f4")
    layout[:] = h5py.VirtualSource("source.h5", "w", shape=(4, 4))
    f.create_virtual_dataset("virtual", layout)
'
run_through 'cut -d , -f 1,4,7' ls --format csv whole.h5
cat *.h5 | cksum >before
for file in whole linked raw source; do
	run convert whole.h5 $file.h5
done
cat *.h5 | cksum | cmp - before && echo 'all as they were'

# a link stays one, and its target is replaced, or made
mkdir elsewhere
echo old >elsewhere/there.safetensors
ln -s elsewhere/there.safetensors link.safetensors
ln -s link.safetensors links.safetensors
ln -s elsewhere/new dangling.h5
ln -s loop.h5 loop.h5
run convert sharded links.safetensors
run convert sharded dangling.h5
run convert sharded loop.h5
run_through 'cut -d , -f 1' ls --format csv elsewhere/there.safetensors
ls -F . elsewhere

# neither files nor devices
mkfifo pipe.h5
run convert sharded pipe.h5
run analyze -o pipe.h5 sharded
run analyze -o elsewhere sharded
run analyze -o '' sharded

# what a process of the same number has left is no hindrance, and a link is not followed
echo precious >precious
MUONSPEC_NO_CHILD=1 sh -c 'ln -s precious out.h5.$$.tmp; exec "$0" convert sharded out.h5' "$MUONSPEC"
cat precious
ls -F out*
