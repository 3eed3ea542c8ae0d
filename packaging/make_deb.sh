#!/bin/bash
# Debian packages from a copy of the sources in FOLDER, which ends up beside them.
#
#     make_deb.sh FOLDER VERSION SOVERSION MAINTAINER BUILD_PACKAGES [VARIABLE=VALUE...]
#
# The copy and what was compiled in it stay, so that the next call compiles only what has changed.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$1 version=$2 soversion=$3 maintainer=$4 packages=$5
shift 5

copy=$folder/muonspec-$version
mkdir -p "$copy/tests"
rm -rf "$copy"/{debian,include,packaging,src,tools} "$folder"/*.{deb,changes,buildinfo}
cp -a Makefile install.mk include packaging src tools LICENSE CHANGELOG.md "$copy"
cp -a tests/tests.mk "$copy/tests"

# packages that every build has are not named
depends=$(echo "$packages" | xargs -n 1 | grep -vxE 'gcc|libc6-dev|make' | paste -sd , | sed 's/,/, /g')
copyright=$(sed -n 's/^Copyright (c) //p' LICENSE)
mkdir "$copy/debian"
for file in packaging/debian/*; do
	name=$(basename "$file" .in)
	case $name in libmuon.install | libmuonspec.install) name=${name%.install}$soversion.install ;; esac
	sed -e "s/@VERSION@/$version/" -e "s/@SOVERSION@/$soversion/g" -e "s/@MAINTAINER@/$maintainer/" \
		-e "s/@BUILD_DEPENDS@/$depends/" -e "s/@COPYRIGHT@/$copyright/" "$file" >"$copy/debian/$name"
done
chmod +x "$copy/debian/rules"
# the licence's text without its title and the line of copyright, in the form of Debian's file
sed -e '1,/^Copyright/d' LICENSE | sed -e '1{/^$/d}' -e 's/^$/./' -e 's/^/ /' >"$copy/license"
sed -i -e "/^@LICENSE@$/{r $copy/license" -e 'd}' "$copy/debian/copyright"
rm "$copy/license"

# nothing of the make that called this, but the build's switches
unset MAKEFLAGS MAKEOVERRIDES MFLAGS MAKELEVEL BUILD CFLAGS LDFLAGS OPT
cd "$copy"
env "$@" DEB_BUILD_OPTIONS="noautodbgsym parallel=$(nproc)" LC_ALL=C.UTF-8 \
	dpkg-buildpackage -b -us -uc -nc >../build.log 2>&1 || { tail -n 30 ../build.log >&2; exit 1; }
