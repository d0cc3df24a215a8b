#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# tests/ports/newest.sh [--install]: builds and runs tests with the dependencies of Debian 13 on Debian 12, whose own are the oldest that
# nibble takes: xsimd 13, tl-expected 1.1, nlohmann_json 3.11.3, protozero 1.8. They are headers, unpacked in build/ports/newest, and nothing
# of them is installed. (Catch2 3 is a library of Debian 13's compiler.) Ends with 77 and the reason where they are not to be had.
set -euo pipefail
cd "$(dirname "$0")/../.."

skip() {
    echo "ports: newest is skipped: $*" >&2
    exit 77
}
work=$PWD/build/ports/newest
packages=(libxsimd-dev xtl-dev libexpected-dev nlohmann-json3-dev libprotozero-dev)
if [ ! -d "$work/root" ]; then
    [ "${1:-}" = --install ] || skip "its packages are not here, --install fetches them"
    uri=$(apt-get indextargets --format '$(COMPONENT) $(REPO_URI)' 'Codename: bookworm' 'Created-By: Packages' 2>/dev/null | awk '$1 == "main" { print $2; exit }')
    [ -n "$uri" ] || skip "this is not Debian 12"
    rm -rf "$work"
    mkdir -p "$work/lists/partial" "$work/packages"
    # apt reads and writes as a user of its own, where it can.
    printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s trixie main\n' "$uri" >"$work/sources.list"
    options=(-qq -o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=- -o "Dir::State::Lists=$work/lists" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
        -o APT::Sandbox::User=)
    apt-get "${options[@]}" update && (cd "$work/packages" && apt-get "${options[@]}" download "${packages[@]}") || skip "apt cannot get the packages of Debian 13"
    for package in "$work"/packages/*.deb; do dpkg -x "$package" "$work/unpacked"; done
    mv "$work/unpacked" "$work/root"
fi

build=$work/build
usr=$work/root/usr
options=(-G Ninja -S . -B "$build" -DCMAKE_BUILD_TYPE=RelWithDebInfo "-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O1 -g1" "-DCMAKE_PREFIX_PATH=$usr"
    "-DNIBBLE_PROTOZERO_INCLUDE=$usr/include" -DNIBBLE_BUILD_COMMAND=OFF -DNIBBLE_BUILD_EXAMPLES=OFF -DNIBBLE_BUILD_KERNELS=OFF -DNIBBLE_INSTALL=OFF
    -DNIBBLE_SPIRV=OFF -DNIBBLE_VULKAN=OFF)
# The packages' names of folders are not those that CMake looks for first.
for package in nlohmann_json xsimd xtl tl-expected; do
    found=$(find "$usr" -iname "$package-config.cmake" -o -iname "${package}Config.cmake" | head -n 1)
    [ -n "$found" ] || { echo "ports: Debian 13's $package has no package file" >&2 && exit 1; }
    options+=("-D${package}_DIR=$(dirname "$found")")
done
cmake "${options[@]}"
rooms=(core codec native source onnx)
cmake --build "$build" --target $(printf 'nibble_%s_test ' "${rooms[@]}")
for room in "${rooms[@]}"; do "$build/tests/nibble_${room}_test"; done
