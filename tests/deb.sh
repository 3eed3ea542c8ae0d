#!/bin/bash
# The Debian packages that `make deb` has built: lintian finds no error and no warning but those named
# here, what they depend on is to be had, and installed into an empty root they are complete, work, and
# leave nothing behind.
#
#     deb.sh FOLDER [really]        with `really` apt installs and purges them on this machine, too
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(cd "$1" && pwd)
top=$(mktemp -d)
trap 'rm -rf "$top"' EXIT
log=$top/log

fail() {
	echo "deb: FAILED: $1"
	[ ! -s "$log" ] || cat "$log"
	exit 1
}

run() { # what, command...
	local what=$1
	shift
	"$@" >"$log" 2>&1 || fail "$what"
}

packages=("$folder"/*.deb)
version=$(sed -n 's/^#define MUON_VERSION "\(.*\)"/\1/p' include/muon/error.h)
so=${version%%.*}
names=(libmuon-dev "libmuon$so" "libmuonspec$so" muonspec)
[ "${#packages[@]}" = 4 ] || fail "${#packages[@]} packages, not 4: ${packages[*]}"
for package in "${packages[@]}"; do dpkg-deb -f "$package" Package; done | sort | tr '\n' ' ' >"$log"
[ "$(cat "$log")" = "$(printf '%s\n' "${names[@]}" | sort | tr '\n' ' ')" ] || fail "names of the packages"

# Debian has no bug about this package that a first upload would close
run "lintian" lintian --allow-root --fail-on error,warning \
	--suppress-tags initial-upload-closes-no-bugs "${packages[@]}" "$folder"/*.changes
run "dependencies" env LC_ALL=C apt-get --simulate --no-install-recommends install "${packages[@]}"

# ---- in a root of its own ------------------------------------------------------------------------
root=$top/root
mkdir -p "$root"/var/lib/dpkg/{info,updates,triggers} "$root/var/log"
touch "$root"/var/lib/dpkg/{status,available}
in_root=(dpkg "--root=$root" --force-depends --force-not-root --force-script-chrootless
	"--path-include=*")
[ "$(id -u)" = 0 ] || in_root=(fakeroot "${in_root[@]}")
outside_dpkg() { find "$root" ! -type d ! -path "$root/var/*"; }

run "dpkg --install" "${in_root[@]}" --install "${packages[@]}"
run "dpkg --verify" "${in_root[@]}" --verify "${names[@]}"
[ ! -s "$log" ] || fail "installed files differ from the packages' checksums"
lib=$root/usr/lib/$(dpkg-architecture -qDEB_HOST_MULTIARCH)
for file in bin/{muonspec,muontrain,muonlab} share/man/man1/{muonspec,muontrain,muonlab}.1.gz \
	share/bash-completion/completions/muonspec share/zsh/vendor-completions/_muonspec \
	share/doc/{muonspec,libmuon$so,libmuonspec$so,libmuon-dev}/{copyright,changelog.Debian.gz} \
	include/muon/optim.h include/muonspec/run.h; do
	[ -s "$root/usr/$file" ] || fail "no file /usr/$file"
done
for file in "$root"/usr/bin/* "$lib"/lib*.so.*; do
	[ -z "$(nm "$file" 2>/dev/null)" ] || fail "$file is not stripped"
done
for program in muonspec muontrain muonlab; do
	run "$program" "$root/usr/bin/$program" --version
	[ "$(cat "$log")" = "$program $version" ] || fail "version of $program"
done
run "muonspec analyze" "$root/usr/bin/muonspec" analyze notebooks-data/example/step-000000.h5
export PKG_CONFIG_LIBDIR=$lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$root
# shellcheck disable=SC2046
run "a program on libmuon-dev compiles" gcc -std=c11 tests/installed/allocator.c -o "$top/program" \
	$(pkg-config --cflags --libs libmuonspec)
run "a program on libmuon-dev runs" env "LD_LIBRARY_PATH=$lib" "$top/program"
count=$(outside_dpkg | wc -l)
run "dpkg --purge" "${in_root[@]}" --purge "${names[@]}"
outside_dpkg >"$log"
[ ! -s "$log" ] || fail "left behind"

# ---- on this machine ------------------------------------------------------------------------------
if [ "${2:-}" = really ]; then
	sudo=()
	[ "$(id -u)" = 0 ] || sudo=(sudo)
	for name in "${names[@]}"; do
		! dpkg-query -W "$name" >/dev/null 2>&1 || fail "$name is installed already"
	done
	run "apt-get install" "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y \
		--no-install-recommends "${packages[@]}"
	dpkg -L "${names[@]}" | grep . | sort -u | while read -r path; do
		[ -d "$path" ] && [ ! -L "$path" ] || echo "$path"
	done >"$top/files"
	run "muonspec" /usr/bin/muonspec analyze notebooks-data/example/step-000000.h5
	! command -v man >/dev/null || run "man page" man -w muonspec
	unset PKG_CONFIG_LIBDIR PKG_CONFIG_SYSROOT_DIR
	# shellcheck disable=SC2046
	run "a program on libmuon-dev" gcc -std=c11 tests/installed/allocator.c -o "$top/program" \
		$(pkg-config --cflags --libs libmuonspec)
	run "a program on libmuon$so" "$top/program"
	run "apt-get purge" "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get purge -y "${names[@]}"
	while read -r path; do
		[ ! -e "$path" ] && [ ! -L "$path" ] || echo "$path"
	done <"$top/files" >"$log"
	[ ! -s "$log" ] || fail "left behind by apt-get purge"
	echo "deb: installed and purged by apt: $(wc -l <"$top/files") files, none left"
fi
echo "deb: ${#packages[@]} packages, $count files, without lintian's errors and warnings, ok"
