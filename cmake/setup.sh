#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what nibble is built with on Debian 12, Debian 13 and Ubuntu 24.04, and nothing that is already there.
# --dev adds what the checks need: clang, clang-format, clang-tidy, ccache, Doxygen, and for shaders glslang, SPIRV-Tools, Vulkan with
# Mesa's software device, and (into ignored folders of tests/gpu and tests/consume, where there are npm and pip) Dawn, wgpu and Conan. --list only prints the packages
# that are missing. On any other system it says what is needed and stops with status 2.
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
  for shaders, all optional: glslang 12 or newer, SPIRV-Tools, Vulkan's headers and loader, a Vulkan driver, Node and npm
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
    tools+=(clang++:clang clang-format:clang-format clang-tidy:clang-tidy ccache:ccache doxygen:doxygen)
    tools+=(vulkaninfo:vulkan-tools)
    # Debian 13's glslang-dev names a program of glslang-tools in its CMake files, without depending on it.
    libraries+=(glslang-dev glslang-tools spirv-tools libvulkan-dev mesa-vulkan-drivers vulkan-validationlayers)
    # The sanitizers' run-time library carries Clang's version in its name.
    case "$system" in
        debian-12)
            libraries+=(libclang-rt-14-dev)
            tools+=(clang++-16:clang-16 clang++-19:clang-19) # for the one header, which others compile with what they have
            ;;
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
as_root=(env DEBIAN_FRONTEND=noninteractive)
if [ "$(id -u)" -ne 0 ]; then
    as_root=(sudo "${as_root[@]}")
fi
may_install() { [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null; }

unavailable() {
    local package
    for package in "${missing[@]}"; do
        apt-cache show "$package" >/dev/null 2>&1 || echo "$package"
    done
}
install_missing() {
    if ! may_install; then
        echo "setup: neither root nor sudo; ask an administrator to install: ${missing[*]}" >&2
        exit 1
    fi
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
}

# Dawn takes Mesa's software device from version 25 on (of those tried); Debian 12 has it in its backports. They are read from where
# this machine has Debian 12 itself, with lists of their own, so that its sources stay as they are. Without it the tests of Dawn are
# skipped: nothing here is an error.
newer_mesa() {
    local version uri work status=0
    version=$(dpkg-query -W -f '${Version}' mesa-vulkan-drivers 2>/dev/null) || return 0
    dpkg --compare-versions "$version" lt 25 || return 0
    uri=$(apt-get indextargets --format '$(COMPONENT) $(REPO_URI)' 'Codename: bookworm' 'Created-By: Packages' | awk '$1 == "main" { print $2; exit }')
    if [ -z "$uri" ] || ! may_install; then
        echo "setup: Mesa $version stays, which is too old for Dawn: where Debian's backports are is not known, or this is not root"
        return 0
    fi
    echo "setup: installing Mesa 25 from Debian's backports"
    work=$(mktemp -d)
    mkdir -p "$work/lists/partial"
    chmod -R a+rX "$work"  # apt reads as a user of its own
    printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' "$uri" bookworm "$uri" bookworm-backports >"$work/sources.list"
    local lists=(-o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=- -o "Dir::State::Lists=$work/lists" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=)
    { "${as_root[@]}" apt-get "${lists[@]}" update -qq &&
        "${as_root[@]}" apt-get "${lists[@]}" install -y -qq --no-install-recommends -t bookworm-backports mesa-vulkan-drivers; } || status=$?
    "${as_root[@]}" rm -rf "$work"
    [ "$status" -eq 0 ] || echo "setup: Mesa $version stays, which is too old for Dawn: the backports were not to be had"
}

# Programs of npm and PyPI in the versions that a folder of tests names, again only when these change.
npm_programs() {
    cd "$1"
    if command -v npm >/dev/null && ! cmp -s package-lock.json node_modules/.installed; then
        if npm ci --ignore-scripts --no-audit --no-fund --loglevel=error; then
            cp package-lock.json node_modules/.installed
        else
            echo "setup: npm did not install what $1/package.json names: tests that need it are skipped"
        fi
    fi
}
python_programs() {
    cd "$1"
    if python3 -m pip --version >/dev/null 2>&1 && ! cmp -s requirements.txt python_modules/.installed; then
        rm -rf python_modules
        if python3 -m pip install -q --disable-pip-version-check --root-user-action=ignore --target python_modules -r requirements.txt; then
            cp requirements.txt python_modules/.installed
        else
            echo "setup: pip did not install what $1/requirements.txt names: tests that need it are skipped"
        fi
    fi
}

if [ ${#missing[@]} -eq 0 ]; then
    echo "setup: no package is missing"
else
    install_missing
fi
if [ "$dev" = yes ]; then
    [ "$system" != debian-12 ] || newer_mesa
    tests=$(cd "$(dirname "$0")/../tests" && pwd)
    (npm_programs "$tests/gpu")
    (python_programs "$tests/gpu")
    (python_programs "$tests/consume")
fi
echo "setup: done"
