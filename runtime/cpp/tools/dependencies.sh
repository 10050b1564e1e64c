#!/bin/sh
# What to build against, in the folder DEST, without root: nothing is installed.
#   tools/dependencies.sh DEST [PYTHON [aarch64|windows]]
# PYTHON's package onnxruntime gives the library (a link to it), so that C++ and Python run the
# same one; the headers come from Debian. Then: cmake -Donnxruntime_ROOT=DEST/root/usr
# For another machine pip fetches that machine's wheel of the same release; for Windows MinGW makes
# the import library that the wheel lacks.
# Debian 13 holds ONNX Runtime's C header (libonnxruntime-dev) and nlohmann-json; any Debian or
# Ubuntu with apt can unpack them, since both are only headers. Elsewhere give CMake
# -Donnxruntime_ROOT=... and an installed nlohmann_json instead.
set -eu

dest=${1:?usage: dependencies.sh DEST [PYTHON [MACHINE]]}
python=${2:-python3}
machine=${3:-}
case $machine in
'') ;;
aarch64) platforms="manylinux_2_28_aarch64 manylinux_2_27_aarch64" library=usr/lib/libonnxruntime.so.1 ;;
windows) platforms=win_amd64 library=usr/bin/onnxruntime.dll ;;
*)
    echo "dependencies.sh knows no machine '$machine': name aarch64 or windows, or none for this one" >&2
    exit 2
    ;;
esac
# a path is the caller's, and the folder changes below
case $python in
*/*) python=$(cd "$(dirname "$python")" && pwd)/$(basename "$python") ;;
esac
mkdir -p "$dest"
dest=$(cd "$dest" && pwd)

fetch_library() {
    release=$("$python" -c 'import importlib.metadata as m; print(m.version("onnxruntime"))')
    set -- "onnxruntime==$release"
    for platform in $platforms; do set -- --platform "$platform" "$@"; done
    "$python" -m pip download -q --no-deps --only-binary :all: --dest "$dest/wheel" "$@"
    "$python" -m zipfile -e "$dest"/wheel/onnxruntime-*.whl "$dest/wheel"
    mkdir -p "$dest/root/usr/lib" "$dest/root/usr/bin"
    if [ "$machine" = windows ]; then
        # all that programs take from it by name; the rest comes through a table
        printf 'LIBRARY onnxruntime.dll\nEXPORTS\nOrtGetApiBase\n' >"$dest/wheel/onnxruntime.def"
        x86_64-w64-mingw32-dlltool -d "$dest/wheel/onnxruntime.def" \
            -l "$dest/root/usr/lib/libonnxruntime.dll.a"
        mv "$dest"/wheel/onnxruntime/capi/onnxruntime*.dll "$dest/root/usr/bin"
    else
        mv "$dest"/wheel/onnxruntime/capi/libonnxruntime.so.1.* "$dest/root/$library"
        ln -sf libonnxruntime.so.1 "$dest/root/usr/lib/libonnxruntime.so"
    fi
    rm -rf "$dest/wheel"
}

link_library() {
    if [ -n "$machine" ]; then
        [ -e "$dest/root/$library" ] || fetch_library
        return
    fi
    folder=$("$python" -c 'import importlib.util as u; print(u.find_spec("onnxruntime").submodule_search_locations[0])')
    for library in "$folder"/capi/libonnxruntime.so.1.*; do
        mkdir -p "$dest/root/usr/lib"
        # the wheel lacks the name that the library asks for, its soname
        ln -sf "$library" "$dest/root/usr/lib/libonnxruntime.so.1"
        ln -sf "$library" "$dest/root/usr/lib/libonnxruntime.so"
    done
}

if [ -f "$dest/complete" ]; then
    link_library
    exit 0
fi
if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
    echo "dependencies.sh needs apt-get and dpkg: elsewhere install nlohmann_json and an" \
        "ONNX Runtime with headers, then run cmake with -Donnxruntime_ROOT=FOLDER" >&2
    exit 1
fi

mkdir -p "$dest/apt/lists/partial" "$dest/apt/cache/archives/partial"
# the archive this system uses itself, as apt knows it
configured=$(apt-get indextargets --format '$(ORIGIN) $(REPO_URI)' | sed -n 's/^Debian //p' | grep -v security | head -n 1)
mirror=${DEBIAN_MIRROR:-$configured}
if [ -z "$mirror" ]; then
    echo "dependencies.sh found no Debian archive in apt's sources: set DEBIAN_MIRROR" >&2
    exit 1
fi
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keyring] $mirror trixie main" >"$dest/apt/sources.list"

# a list, a cache and a state of their own: the machine's apt is not touched
apt() {
    apt-get -qq -o Dir::Etc::sourcelist="$dest/apt/sources.list" -o Dir::Etc::sourceparts=- \
        -o Dir::State::lists="$dest/apt/lists" -o Dir::Cache="$dest/apt/cache" \
        -o APT::Sandbox::User="$(id -un)" "$@"
}
apt update
cd "$dest/apt"
apt download libonnxruntime-dev nlohmann-json3-dev
for package in *.deb; do
    dpkg -x "$package" "$dest/root"
done
# the package's library links are for another version: only the headers are wanted
cd "$dest"
rm -rf root/usr/lib apt
link_library
touch "$dest/complete"
