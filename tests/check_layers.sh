#!/bin/sh
# Includes point only down the layers, and each outside library's header stays in its place.
# Prints offending lines; exit status 1 if there are any.
cd "$(dirname "$0")/.." || exit 2

# who may include whom: file prefix, then the include prefixes allowed
allowed() {
	case $1 in
	src/base/*) echo 'base/' ;;
	src/kernels/*) echo 'base/ kernels/' ;;
	src/dist/*) echo 'base/ kernels/ dist/' ;;
	src/optim/*) echo 'base/ kernels/ dist/ optim/' ;;
	src/checkpoint/*) echo 'base/ kernels/ checkpoint/' ;;
	src/metric/*) echo 'base/ kernels/ metric/' ;;
	src/model/*) echo 'base/ kernels/ optim/ dist/ model/' ;;
	src/analysis/*) echo 'base/ kernels/ checkpoint/ metric/ model/ analysis/' ;;
	tools/common/*) echo 'base/' ;;
	tools/*) echo 'base/ analysis/ common/' ;;
	esac
}

# public headers that a layer may use
allowed_public() {
	case $1 in
	src/base/*) echo 'muon/error.h' ;;
	src/kernels/*) echo 'muon/error.h muon/kernels.h' ;;
	src/optim/* | src/dist/*) echo 'muon/' ;;
	src/checkpoint/*) echo 'muon/error.h muon/kernels.h muonspec/checkpoint.h' ;;
	src/metric/*) echo 'muon/error.h muon/kernels.h muonspec/spectrum.h muonspec/metric.h' ;;
	src/model/*) echo 'muon/ muonspec/model.h' ;;
	*) echo 'muon/ muonspec/' ;;
	esac
}

# the only files that may include an outside library's header
owner() {
	case $1 in
	hdf5.h | hdf5_hl.h | H5*.h) echo 'src/checkpoint/hdf5_library.h' ;;
	mpi.h) echo 'src/dist/dist_mpi.c' ;;
	dnnl*.h | *oneapi*) echo 'src/kernels/' ;;
	jansson.h) echo 'src/checkpoint/safetensors src/analysis/model_config.c src/analysis/gate_json.c tools/' ;;
	zip.h) echo 'src/checkpoint/npz.c' ;;
	xxhash.h) echo 'src/analysis/content_hash.c' ;;
	cblas.h | lapack*.h) echo 'src/kernels/ src/optim/ src/model/' ;;
	*) echo any ;;
	esac
}

matches() { # word, list of prefixes
	for prefix in $2; do
		case $1 in "$prefix"*) return 0 ;; esac
	done
	return 1
}

bad=0
complain() {
	echo "$1: includes $2: $3"
	bad=1
}

for file in $(find src tools -name '*.[ch]' | sort); do
	for include in $(sed -n 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*"\([^"]*\)".*/\1/p' "$file"); do
		case $include in
		*/*) matches "$include" "$(allowed "$file")" ||
			complain "$file" "$include" "points up or sideways" ;;
		*.def | *.h) [ -e "$(dirname "$file")/$include" ] ||
			complain "$file" "$include" "is not in its folder" ;;
		esac
	done
	for include in $(sed -n 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*<\([^>]*\)>.*/\1/p' "$file"); do
		case $include in
		muon/* | muonspec/*) matches "$include" "$(allowed_public "$file")" ||
			complain "$file" "$include" "points up or sideways" ;;
		*)
			who=$(owner "$include")
			[ "$who" = any ] || matches "$file" "$who" ||
				complain "$file" "$include" "belongs in $who"
			;;
		esac
	done
done

# each program has its main.c
twice=$(find src tools include -name '*.[ch]' ! -name main.c | sed 's|.*/||' | sort | uniq -d)
for name in $twice; do
	# a public header and the layer's own of the same name are two faces of one thing
	[ "$(find src tools -name "$name" | wc -l)" -lt 2 ] ||
		complain "$name" "-" "two files have this name"
done

[ $bad = 0 ] && echo "check-layers: $(find src tools -name '*.[ch]' | wc -l) files, all includes point down"
exit $bad
