#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Checks that every tracked .hpp and .cpp is as .clang-format says; --fix rewrites them. Exits with 77 (skipped) where there is no
# clang-format 14: later versions break some lines elsewhere, and two judges would never agree.
set -euo pipefail

cd "$(dirname "$0")/.."
tool=$(command -v clang-format-14 || command -v clang-format) || {
    echo "format: skipped, clang-format is not installed (cmake/setup.sh --dev installs it)"
    exit 77
}
if ! "$tool" --version | grep -q 'version 14\.'; then
    echo "format: skipped, version 14 is needed (as in Debian 12; elsewhere: pip install clang-format==14.0.6), this is: $("$tool" --version)"
    exit 77
fi
mapfile -d '' -t files < <(git ls-files -z -co --exclude-standard -- '*.hpp' '*.cpp')
present=()
for file in "${files[@]}"; do
    [ ! -f "$file" ] || present+=("$file")
done
if [ ${#present[@]} -eq 0 ]; then
    echo "format: there are no files to check" >&2
    exit 1
fi
if [ "${1:-}" = --fix ]; then
    "$tool" -i "${present[@]}"
    exit 0
fi
if ! "$tool" --dry-run -Werror "${present[@]}"; then
    echo "format: cmake/check_format.sh --fix mends this" >&2
    exit 1
fi
echo "format: ${#present[@]} files are as .clang-format says"
