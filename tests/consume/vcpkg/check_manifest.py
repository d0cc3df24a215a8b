#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the port in packaging/vcpkg by vcpkg's rules of form.

usage: check_manifest.py ROOT
The manifests are as `vcpkg format-manifest` would leave them, the version is that of version.hpp, the portfile knows every feature and
`usage` names a target for each that has one. Prints what is wrong and exits with 1.
"""

import json
import os
import re
import sys

ORDER = ["name", "version", "description", "license", "supports", "dependencies", "default-features", "features"]


def dependency_key(d):
    return d if isinstance(d, str) else d["name"]


def check_form(path, faults):
    with open(path, encoding="utf-8") as f:
        text = f.read()
    manifest = json.loads(text)
    if json.dumps(manifest, indent=2, ensure_ascii=False) + "\n" != text:
        faults.append(f"{path}: it is not indented by two spaces, with a line for each entry")
    for what, part in [("the manifest", manifest)] + [(f"feature {n}", f) for n, f in manifest.get("features", {}).items()]:
        keys = list(part)
        if keys != sorted(keys, key=lambda k: ORDER.index(k) if k in ORDER else -1):
            faults.append(f"{path}: the keys of {what} are not in the order {', '.join(ORDER)}")
        names = [dependency_key(d) for d in part.get("dependencies", [])]
        if names != sorted(names):
            faults.append(f"{path}: the dependencies of {what} are not sorted")
    for name, feature in manifest.get("features", {}).items():
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) or not feature.get("description"):
            faults.append(f"{path}: feature {name} needs a lower-case name and a description")
    if list(manifest.get("features", {})) != sorted(manifest.get("features", {})):
        faults.append(f"{path}: the features are not sorted")
    return manifest


def main(root):
    faults = []
    port = os.path.join(root, "packaging/vcpkg/nibble")
    check_form(os.path.join(root, "vcpkg.json"), faults)
    check_form(os.path.join(root, "tests/consume/vcpkg/vcpkg.json"), faults)
    manifest = check_form(os.path.join(port, "vcpkg.json"), faults)
    with open(os.path.join(root, "include/nibble/version.hpp"), encoding="utf-8") as f:
        version = re.search(r'define NIBBLE_VERSION "([^"]+)"', f.read()).group(1)
    if manifest.get("version") != version:
        faults.append(f"{port}/vcpkg.json: version {manifest.get('version')}, but version.hpp says {version}")
    with open(os.path.join(port, "portfile.cmake"), encoding="utf-8") as f:
        known = re.search(r"FEATURES\n(.*?)\)", f.read(), re.S).group(1).split()[::2]
    if known != list(manifest["features"]):
        faults.append(f"{port}/portfile.cmake: knows the features {known}, the manifest {list(manifest['features'])}")
    with open(os.path.join(port, "usage"), encoding="utf-8") as f:
        usage = f.read()
    for name in manifest["features"]:
        if name != "command" and f"nibble::{name}" not in usage:
            faults.append(f"{port}/usage: does not say what the target of feature {name} is")
    print("\n".join(faults) or f"vcpkg: the manifests of nibble {version} are well formed")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
