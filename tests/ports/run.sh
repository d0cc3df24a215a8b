#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# tests/ports/run.sh aarch64|wasm|m32|big-endian [--install]: builds and tests nibble for machines that this one is not.
# aarch64 and wasm: nibble::kernels with the tests of cpu, under QEMU's user emulation (SVE, dot products, plain NEON), and as WebAssembly
# SIMD in Node. m32: the tests of codec and cpu as a 32-bit program of x86. Each of them computes with the one header what this machine
# computes. big-endian: a compiler for s390x is told by the first error that such machines are not supported.
# --install fetches what is missing: packages of Debian 12, and for SVE and WebAssembly the headers of xsimd 13, which Debian 12 lacks.
# Ends with 77 and the reason where something is missing. Builds in build/ports/.
set -euo pipefail
cd "$(dirname "$0")/../.."

port=${1:-}
install=no
[ "${2:-}" = --install ] && install=yes
case "$port" in
    aarch64) tools=(aarch64-linux-gnu-g++:g++-aarch64-linux-gnu qemu-aarch64:qemu-user) packages=() ;;
    wasm)
        clang=$(clang++ -dumpversion 2>/dev/null | cut -d. -f1) || true
        clang=${clang:-14}
        tools=(clang++:clang "wasm-ld-$clang:lld-$clang" node:nodejs)
        packages=("llvm-$clang" wasi-libc "libc++-$clang-dev-wasm32" "libc++abi-$clang-dev-wasm32" "libclang-rt-$clang-dev-wasm32")
        ;;
    m32)
        tools=(g++:g++)
        packages=("g++-$(g++ -dumpversion)-multilib") # the one without a version ousts cross-compilers
        ;;
    big-endian) tools=(s390x-linux-gnu-g++:g++-s390x-linux-gnu) packages=() ;;
    *)
        echo "usage: tests/ports/run.sh aarch64|wasm|m32|big-endian [--install]" >&2
        exit 64
        ;;
esac

skip() {
    echo "ports: $port is skipped: $*" >&2
    exit 77
}

# 1. Tools. The names of packages are those of Debian 12; another system may have the same under other names.
missing=()
for tool in "${tools[@]}"; do
    command -v "${tool%%:*}" >/dev/null || missing+=("${tool#*:}")
done
if [ ${#packages[@]} -ne 0 ]; then
    installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${packages[@]}" 2>/dev/null || true)
    for package in "${packages[@]}"; do
        grep -qx "installed $package" <<<"$installed" || missing+=("$package")
    done
fi
if [ ${#missing[@]} -ne 0 ] && [ "$install" = yes ]; then
    as_root=(env DEBIAN_FRONTEND=noninteractive)
    [ "$(id -u)" -eq 0 ] || as_root=(sudo "${as_root[@]}")
    "${as_root[@]}" apt-get update -qq || true
    "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" || skip "apt cannot install ${missing[*]}"
    missing=()
fi
[ ${#missing[@]} -eq 0 ] || skip "these packages are missing, --install installs them: ${missing[*]}"

# 2. Headers. A prefix of its own has them: what a system's package files name are this machine's headers and libraries.
work=$PWD/build/ports
prefix=$work/prefix-$port
mkdir -p "$prefix/include"
for header in tl/expected.hpp nlohmann/json.hpp protozero/pbf_writer.hpp catch2/catch.hpp; do
    [ -f "/usr/include/$header" ] || skip "/usr/include/$header is not there (of Catch2 it takes version 2, which is one header)"
    ln -sfn "/usr/include/${header%/*}" "$prefix/include/${header%/*}"
done

xsimd_version() {
    awk '/#define XSIMD_VERSION_(MAJOR|MINOR|PATCH)/ { v = v (v == "" ? "" : ".") $3 } END { print v }' "$1/xsimd/config/xsimd_config.hpp" 2>/dev/null || echo 0
}
xsimd=${NIBBLE_XSIMD_INCLUDE:-/usr/include}
version=$(xsimd_version "$xsimd")
newer=no
case "$port" in aarch64 | wasm) newer=yes ;; esac
if [ $newer = yes ] && [ -z "${NIBBLE_XSIMD_INCLUDE:-}" ] && [ "${version%%.*}" -lt 11 ]; then
    # Pythran's package carries them: 4 MB, in which nothing is run.
    if [ ! -d "$work/xsimd/pythran/xsimd" ] && [ "$install" = yes ]; then
        mkdir -p "$work/xsimd"
        echo "pythran==0.18.1 --hash=sha256:e1d811a5843d1881f8adcc3944fe3b84c7317ebf4530617829c19c9836f18b49" >"$work/xsimd/requirements.txt"
        python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary :all: -d "$work/xsimd" -r "$work/xsimd/requirements.txt" &&
            python3 -m zipfile -e "$work"/xsimd/pythran-*.whl "$work/xsimd" || echo "ports: pip cannot get the headers of xsimd 13" >&2
    fi
    if [ -d "$work/xsimd/pythran/xsimd" ]; then
        xsimd=$work/xsimd/pythran
        version=$(xsimd_version "$xsimd")
    fi
fi
if [ $newer = yes ] && [ "${version%%.*}" -lt 11 ]; then
    [ "$port" != wasm ] || skip "xsimd $version has no WebAssembly, --install fetches the headers of xsimd 13"
    echo "ports: xsimd $version has no SVE, only NEON is tested; --install fetches the headers of xsimd 13"
fi
ln -sfn "$xsimd/xsimd" "$prefix/include/xsimd"

# The one header, and what includes it.
single=$work/single
mkdir -p "$single/copy"
CXX=${CXX:-g++} cmake/amalgamate.py -o "$single/nibble.hpp"
cp "$single/nibble.hpp" "$single/copy/"
if [ "$port" = big-endian ]; then
    for folder in include/nibble "$single"; do
        first=$(echo '#include "nibble.hpp"' | s390x-linux-gnu-g++ -std=c++20 -Iinclude "-I$folder" "-I$prefix/include" -fsyntax-only -x c++ - 2>&1 | grep -m 1 'error: ' || true)
        if ! grep -q 'nibble: .*big-endian machines are not supported' <<<"$first"; then
            echo "ports: a compiler for s390x is not told why by $folder/nibble.hpp, its first error is: $first" >&2
            exit 1
        fi
    done
    echo "ports: big-endian: refused by our sentence"
    exit
fi
# one_header FOLDER COMPILER FLAG...: with the one header the port computes what it does with include/, and all but the SIMD that this
# machine does. `emulator` runs programs of the port.
one_header() {
    local folder=$1
    shift
    mkdir -p "$folder"
    local program=(-std=c++20 -DTEST_ALONE tests/single/program.cpp -o)
    "${CXX:-g++}" -O0 -Iinclude -DNIBBLE_NO_SIMD "${program[@]}" "$folder/here"
    "$@" -O1 -Iinclude -isystem "$prefix/include" "${program[@]}" "$folder/tree"
    "$@" -O1 "-I$single" -isystem "$prefix/include" -DTEST_SINGLE "${program[@]}" "$folder/single"
    "$folder/here" >"$folder/here.txt"
    "${emulator[@]}" "$folder/tree" >"$folder/tree.txt"
    "${emulator[@]}" "$folder/single" >"$folder/single.txt"
    grep -q '^cpu exact ' "$folder/tree.txt"
    diff "$folder/tree.txt" "$folder/single.txt"
    grep -v '^cpu' "$folder/tree.txt" | diff "$folder/here.txt" -
    echo "ports: $port: the one header computes what include/ does"
}

# package NAME TARGET VERSION: what find_package and the targets of nibble need to know of headers.
package() {
    local folder=$prefix/cmake/$1
    mkdir -p "$folder"
    printf 'set(PACKAGE_VERSION %s)\nset(PACKAGE_VERSION_COMPATIBLE TRUE)\n' "$3" >"$folder/$1-config-version.cmake"
    cat >"$folder/$1-config.cmake" <<CONFIG
add_library($2 INTERFACE IMPORTED)
set_target_properties($2 PROPERTIES INTERFACE_INCLUDE_DIRECTORIES $prefix/include)
CONFIG
}
package xsimd xsimd "$version"
package tl-expected tl::expected 1.0
package nlohmann_json nlohmann_json::nlohmann_json 3.11
package catch2 Catch2::Catch2 2.13

# 3. Build.
build=$work/$port-xsimd-$version
options=(-G Ninja -S . -B "$build" -DCMAKE_BUILD_TYPE=RelWithDebInfo "-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O1 -g1"
    "-DCMAKE_PREFIX_PATH=$prefix/cmake" -DCMAKE_FIND_ROOT_PATH_MODE_PACKAGE=NEVER
    -DNIBBLE_BUILD_COMMAND=OFF -DNIBBLE_BUILD_EXAMPLES=OFF -DNIBBLE_INSTALL=OFF -DNIBBLE_STRICT=OFF)
for name in xsimd tl-expected nlohmann_json; do options+=("-D${name}_DIR=$prefix/cmake/$name"); done
options+=("-DCatch2_DIR=$prefix/cmake/catch2" "-DNIBBLE_PROTOZERO_INCLUDE=$prefix/include")
if [ "$port" = aarch64 ]; then
    emulator=(qemu-aarch64 -L /usr/aarch64-linux-gnu)
    one_header "$build-single" aarch64-linux-gnu-g++ -Wno-psabi
    options+=(-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ "-DCMAKE_CXX_FLAGS=-Wno-psabi"
        "-DCMAKE_CROSSCOMPILING_EMULATOR=qemu-aarch64;-L;/usr/aarch64-linux-gnu;-cpu;max,sve256=on")
elif [ "$port" = m32 ]; then
    # The kernel's headers are the same for both kinds of program, and lie among those of 64 bits.
    flags=(-m32 -msse2 -mfpmath=sse -idirafter "/usr/include/$(g++ -print-multiarch)")
    emulator=()
    one_header "$build-single" g++ "${flags[@]}" -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror
    if echo '#include "nibble/nibble.hpp"' | g++ -std=c++20 -m32 -mno-sse "${flags[@]:3}" -Iinclude -fsyntax-only -x c++ - 2>"$build-single/x87.txt"; then
        echo "ports: m32: code for the x87 was not refused" >&2
        exit 1
    fi
    grep -m 1 'error: ' "$build-single/x87.txt" | grep 'nibble: float must be computed as float' >/dev/null || {
        cat "$build-single/x87.txt" >&2
        exit 1
    }
    options+=(-DCMAKE_CXX_COMPILER=g++ "-DCMAKE_CXX_FLAGS=${flags[*]}" -DNIBBLE_BUILD_KERNELS=OFF)
else
    # Neither threads nor exceptions are there; nor are signals, which Catch2 would catch. 64 KiB of stack, which is what a module has
    # unless told otherwise, are too few for the tests.
    llvm=$(dirname "$(readlink -f "$(command -v clang++)")")
    emulator=(node --no-warnings tests/ports/wasi.mjs)
    one_header "$build-single" clang++ --target=wasm32-wasi -msimd128 -fno-exceptions -Wl,-z,stack-size=1048576
    options+=(-DCMAKE_SYSTEM_NAME=Generic -DCMAKE_SYSTEM_PROCESSOR=wasm32 -DCMAKE_CXX_COMPILER=clang++ -DCMAKE_CXX_COMPILER_TARGET=wasm32-wasi
        "-DCMAKE_AR=$llvm/llvm-ar" "-DCMAKE_RANLIB=$llvm/llvm-ranlib" "-DCMAKE_CXX_FLAGS=-msimd128 -fno-exceptions -DCATCH_CONFIG_NO_POSIX_SIGNALS"
        "-DCMAKE_EXE_LINKER_FLAGS=-Wl,-z,stack-size=1048576" -DCMAKE_HAVE_LIBC_PTHREAD=ON -DTHREADS_HAVE_PTHREAD_ARG=OFF
        "-DCMAKE_CROSSCOMPILING_EMULATOR=node;--no-warnings;$PWD/tests/ports/wasi.mjs")
fi
cmake "${options[@]}"
if [ "$port" = m32 ]; then
    cmake --build "$build" --target nibble_codec_test nibble_cpu_test
    ctest --test-dir "$build" -R '^(codec|cpu)$' --output-on-failure --no-tests=error
    exit
fi
cmake --build "$build" --target nibble_cpu_test

# 4. Run. What takes minutes on an emulated machine is tagged [slow]; it compares constants, which are the same everywhere.
test=$build/tests/nibble_cpu_test
ctest --test-dir "$build" -R '^kernels\.(symbols$|forced)' --output-on-failure --no-tests=error
if [ "$port" = wasm ]; then
    node --no-warnings tests/ports/wasi.mjs "$test" "~[slow]"
    exit
fi
# expects CPU ARCH: on this machine the kernels of ARCH are chosen.
expects() {
    local output
    output=$(qemu-aarch64 -L /usr/aarch64-linux-gnu -cpu "$1" "$test" "[arch]")
    grep -qx " *kernels: $2" <<<"$output" || {
        echo "ports: on -cpu $1 the kernels are not those of $2" >&2
        exit 1
    }
    echo "ports: -cpu $1: $2"
}
best=neon64_dotprod
[ ! -f "$build/kernels/sve256.cpp" ] || best=sve256
expects cortex-a53 neon64
expects cortex-a76 neon64_dotprod
expects max,sve512=on neon64_dotprod # vectors of another length than the unit was compiled for
expects max,sve256=on $best
qemu-aarch64 -L /usr/aarch64-linux-gnu -cpu max,sve256=on "$test" "~[slow]"
