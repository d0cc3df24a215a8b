#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Copies Debian's Chromium (0.3 GB) and gives the copy Mesa's lavapipe as its software adapter for WebGPU, so that models of f16 run without a GPU.
# Needs a C compiler, libvulkan1, and mesa-vulkan-drivers 24 or newer (Debian 12: from bookworm-backports). Prints the name of the program.
#
# usage: tests/web/chromium_lavapipe.sh FOLDER
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
from=${CHROMIUM_FOLDER:-/usr/lib/chromium}
to=${1:?usage: chromium_lavapipe.sh FOLDER}
if [ ! -e "$from/libvk_swiftshader.so" ]; then
    echo "chromium_lavapipe: there is no Chromium with SwiftShader in $from; name its folder in CHROMIUM_FOLDER" >&2
    exit 1
fi
if [ -e "$to" ]; then
    echo "chromium_lavapipe: $to exists; remove it, or name another folder" >&2
    exit 1
fi
mkdir -p "$to"
cp -r "$from/." "$to"
# Chromium draws its pages with the real one.
mv "$to/libvk_swiftshader.so" "$to/libvk_swiftshader_real.so"
sed -i 's/libvk_swiftshader\.so/libvk_swiftshader_real.so/' "$to/vk_swiftshader_icd.json"
"${CC:-cc}" -O2 -Wall -Wextra -shared -fPIC -o "$to/libvk_swiftshader.so" "$here/software_adapter.c" -ldl
echo "$to/chromium"
