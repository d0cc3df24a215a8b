#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what nibble is built with on Debian 12, Debian 13 and Ubuntu 24.04, and nothing that is already there.
# --dev adds what the checks need: clang, clang-format, clang-tidy, ccache. --list only prints the packages that are missing.
# On any other system it says what is needed and stops with status 2.
set -euo pipefail

dev=no
list=no
for argument in "$@"; do
    case "$argument" in
        --dev) dev=yes ;;
        --list) list=yes ;;
        *)
            echo "usage: cmake/setup.sh [--dev] [--list]" >&2
            exit 64
            ;;
    esac
done

# Read in a subshell: os-release sets names like VERSION.
system=$(. "${NIBBLE_OS_RELEASE:-/etc/os-release}" 2>/dev/null && echo "${ID:-unknown}-${VERSION_ID:-}") || system=unknown
case "$system" in
    debian-12 | debian-13 | ubuntu-24.04) ;;
    *)
        cat >&2 <<'NEEDS'
setup: this script knows Debian 12, Debian 13 and Ubuntu 24.04. On another system install, by its own package manager:
  a C++20 compiler        GCC 12 or newer, or Clang 14 or newer
  CMake 3.22 and Ninja    Python 3 and pkg-config for the tests
  xsimd 8.1 or newer, tl-expected 1.0, nlohmann_json 3.10, protozero 1.7, CLI11 2.1 and cpp-httplib 0.11 (for the command), Catch2 2.13 or 3 (for the tests),
  Google Benchmark (for the benchmarks)
then:  cmake --preset test && cmake --build --preset test && ctest --preset test
NEEDS
        exit 2
        ;;
esac

# Tools count as present wherever they come from; "command:package".
tools=(c++:g++ cmake:cmake ninja:ninja-build git:git python3:python3 pkg-config:pkgconf)
# The names are the same in all three systems; the versions are not (Catch2 is 2 in Debian 12 and 3 in the others, xsimd 8, 13, 12,
# cpp-httplib 0.11, 0.18, 0.14).
libraries=(libxsimd-dev libexpected-dev nlohmann-json3-dev libprotozero-dev libcli11-dev libcpp-httplib-dev catch2 libbenchmark-dev)
if [ "$dev" = yes ]; then
    tools+=(clang++:clang clang-format:clang-format clang-tidy:clang-tidy ccache:ccache)
    # The sanitizers' run-time library carries Clang's version in its name.
    case "$system" in
        debian-12) libraries+=(libclang-rt-14-dev) ;;
        debian-13) libraries+=(libclang-rt-19-dev) ;;
        ubuntu-24.04) libraries+=(libclang-rt-18-dev) ;;
    esac
fi

missing=()
for tool in "${tools[@]}"; do
    command -v "${tool%%:*}" >/dev/null || missing+=("${tool#*:}")
done
installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${libraries[@]}" 2>/dev/null || true)
for library in "${libraries[@]}"; do
    grep -qx "installed $library" <<<"$installed" || missing+=("$library")
done

if [ "$list" = yes ]; then
    [ ${#missing[@]} -eq 0 ] || printf '%s\n' "${missing[@]}"
    exit 0
fi
if [ ${#missing[@]} -eq 0 ]; then
    echo "setup: nothing is missing"
    exit 0
fi

as_root=(env DEBIAN_FRONTEND=noninteractive)
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "setup: neither root nor sudo; ask an administrator to install: ${missing[*]}" >&2
        exit 1
    fi
    as_root=(sudo "${as_root[@]}")
fi

unavailable() {
    local package
    for package in "${missing[@]}"; do
        apt-cache show "$package" >/dev/null 2>&1 || echo "$package"
    done
}
echo "setup: installing ${missing[*]}"
# A failed update may be one foreign source of many; whether the packages can be had is looked at next.
"${as_root[@]}" apt-get update -qq || echo "setup: apt-get update reported errors, going on with the lists that there are" >&2
if [ -n "$(unavailable)" ] && [ "${system%%-*}" = ubuntu ]; then
    # Most of these libraries are in universe, which minimal images leave out.
    echo "setup: enabling the component universe"
    command -v add-apt-repository >/dev/null || "${as_root[@]}" apt-get install -y -qq --no-install-recommends software-properties-common
    "${as_root[@]}" add-apt-repository -y universe
    "${as_root[@]}" apt-get update -qq || true
fi
if [ -n "$(unavailable)" ]; then
    echo "setup: apt knows no package" $(unavailable) >&2
    echo "setup: install these libraries by hand and name their prefix in CMAKE_PREFIX_PATH" >&2
    exit 1
fi
"${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"
echo "setup: done"
