#!/bin/sh
# The functions that the headers in include/FOLDER declare, one a line, sorted; gcc reads them.
#
#     public_functions.sh FOLDER
cd "$(dirname "$0")/.." || exit 1
prototypes=$(mktemp) || exit 1
trap 'rm -f "$prototypes"' EXIT
for header in include/"$1"/*.h; do
	echo "#include \"$header\""
done | gcc -std=c11 -Iinclude -fsyntax-only -aux-info "$prototypes" -x c - || exit 1
# "/* include/muon/error.h:55:NC */ extern const char *muon_error_text (int);"
sed -n "s|^/\* include/$1/[^ ]* \*/ extern [^(]*[ *]\([A-Za-z0-9_]*\) (.*|\1|p" "$prototypes" |
	LC_ALL=C sort -u
