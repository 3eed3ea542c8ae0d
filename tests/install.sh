#!/bin/bash
# An installed copy serves programs outside this tree: installs into an empty folder, compares the
# symbols of the shared libraries with the public headers, compiles the programs of tests/installed/
# and every public header alone, as C and as C++, with nothing but pkg-config's flags, runs them against
# the shared and the static libraries, and uninstalls.
#
#     install.sh MAKE [VARIABLE=VALUE...]        the make that built it, and what it was given
set -euo pipefail
cd "$(dirname "$0")/.."
top=$(mktemp -d)
trap 'rm -rf "$top"' EXIT
log=$top/log

fail() {
	echo "install: FAILED: $1"
	[ ! -s "$log" ] || cat "$log"
	exit 1
}

run() { # what, command...
	local what=$1
	shift
	"$@" >"$log" 2>&1 || fail "$what"
}

build=build
for word; do [[ $word != BUILD=* ]] || build=${word#BUILD=}; done
make=("$@" --no-print-directory -s "DESTDIR=$top/root" PREFIX=/usr)
run "make install" "${make[@]}" install
lib=$top/root/usr/lib
(cd "$top/root/usr" && find . ! -type d | LC_ALL=C sort) >"$top/files"
export PKG_CONFIG_PATH=$lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$top/root

version=$(sed -n 's/^#define MUON_VERSION "\(.*\)"/\1/p' include/muon/error.h)
for library in libmuon libmuonspec; do
	[ "$(pkg-config --modversion $library)" = "$version" ] || fail "version in $library.pc"
	objdump -p "$lib/$library.so" | grep "SONAME *$library.so.${version%%.*}\$" >"$log" ||
		fail "soname of $library"
done

# What each library exports is what its headers declare, and nothing is in both.
for folder in muon muonspec; do
	library=$lib/lib$folder.so
	packaging/public_functions.sh $folder >"$top/declared.$folder" || fail "declarations in $folder"
	nm -D --defined-only "$library" | awk '$2 != "A" { print $3 }' | LC_ALL=C sort >"$top/exported"
	node=LIB$(echo $folder | tr a-z A-Z)_${version%%.*}
	sed "s/\$/@@$node/" "$top/declared.$folder" | LC_ALL=C sort | diff - "$top/exported" >"$log" ||
		fail "lib$folder.so (>) exports other symbols than include/$folder (<) declares"
	marks=$(cat include/$folder/*.h | grep -v '^#define' | grep -cw MUON_API)
	[ "$marks" = "$(wc -l <"$top/declared.$folder")" ] ||
		fail "$marks MUON_API in include/$folder, but other functions than these are declared"
done
nm --defined-only "$lib/libmuonspec.so" | awk '{ print $3 }' | sed 's/@.*//' | LC_ALL=C sort -u |
	LC_ALL=C comm -12 "$top/declared.muon" - >"$log"
[ ! -s "$log" ] || fail "functions of libmuon that libmuonspec.so holds as well"

cc=(gcc -std=c11 -pedantic -Wall -Wextra -Wundef -Werror)
cxx=(g++ -std=c++11 -pedantic -Wall -Wextra -Wundef -Werror)
# shellcheck disable=SC2046
for header in include/*/*.h; do
	echo "#include <${header#include/}>" | tee "$top/alone.c" >"$top/alone.cpp"
	run "$header alone" "${cc[@]}" -fsyntax-only $(pkg-config --cflags libmuonspec) "$top/alone.c"
	run "$header alone, as C++" "${cxx[@]}" -fsyntax-only $(pkg-config --cflags libmuonspec) \
		"$top/alone.cpp"
done

# every function is there for C++
{
	for header in include/*/*.h; do echo "#include <${header#include/}>"; done
	echo 'typedef void (*any)(); any all[] = {'
	sed 's/.*/reinterpret_cast<any>(&),/' "$top"/declared.*
	echo '}; int main() { return all[0] == nullptr; }'
} >"$top/all.cpp"
# shellcheck disable=SC2046
run "C++ links with every function" "${cxx[@]}" "$top/all.cpp" -o "$top/all" \
	$(pkg-config --cflags --libs libmuonspec)
run "C++ finds every function" env "LD_LIBRARY_PATH=$lib" LD_BIND_NOW=1 "$top/all"

# the program in optim.h's first comment is this one
sed -n '/^ \*     #include/,/^ \*\/$/s/^ \*\(     \)\{0,1\}//p' include/muon/optim.h | sed '$d' |
	cmp -s - tests/installed/descend.c || fail "the program in optim.h is not descend.c"

programs=0
build_and_run() { # how, pkg-config's options
	local how=$1 source name library
	shift
	for source in tests/installed/*.c; do
		name=$(basename "$source" .c)
		library=libmuon
		! grep -q '<muonspec/' "$source" || library=libmuonspec
		# shellcheck disable=SC2046
		run "$name compiles, $how" "${cc[@]}" -D_POSIX_C_SOURCE=200809L "$source" \
			-o "$top/$name" $(pkg-config "$@" $library) -lm
		run "$name runs, $how" env "LD_LIBRARY_PATH=$lib" "$top/$name"
		[ ! -e "${source%.c}.expected" ] || cmp -s "${source%.c}.expected" "$log" ||
			fail "$name's output, $how"
		programs=$((programs + 1))
	done
}
build_and_run "shared libraries" --cflags --libs

# without the shared libraries the linker takes the static ones; what these need is not under the
# install's root
rm "$lib"/*.so*
unset PKG_CONFIG_SYSROOT_DIR
build_and_run "static libraries" --static --cflags --libs "--define-variable=libdir=$lib" \
	"--define-variable=includedir=$top/root/usr/include"

share=$top/root/usr/share
for program in muonspec muontrain muonlab; do
	run "$program --version" "$top/root/usr/bin/$program" --version
	grep -q "$version" "$log" || fail "$program --version"
	grep -q "muonspec $version" "$share/man/man1/$program.1" || fail "$program.1"
	for file in "bash-completion/completions/$program" "zsh/site-functions/_$program"; do
		cmp -s "$share/$file" "$build/documents/${file##*/}$([[ $file = zsh* ]] || echo .bash)" ||
			fail "$file"
	done
done
run "make uninstall" "${make[@]}" uninstall
left=$(find "$top/root" ! -type d)
[ -z "$left" ] || fail "left behind by uninstall: $left"

# folders with spaces in their names, and a file whose name is the first word of one
spaced=("DESTDIR=$top/a root" "PREFIX=/opt/muon spec")
run "make install, with spaces" "${make[@]}" "${spaced[@]}" install
(cd "$top/a root/opt/muon spec" && find . ! -type d | LC_ALL=C sort) | diff "$top/files" - >"$log" ||
	fail "installed under a name with spaces (>)"
touch "$top/a root/opt/muon"
run "make uninstall, with spaces" "${make[@]}" "${spaced[@]}" uninstall
find "$top/a root" ! -type d >"$log"
[ "$(cat "$log")" = "$top/a root/opt/muon" ] || fail "left by uninstall, not the one file /opt/muon"
echo "install: $(cat "$top"/declared.* | wc -l) functions exported; $programs programs built against an installed copy, shared and static, ok"
