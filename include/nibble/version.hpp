// SPDX-License-Identifier: Apache-2.0
#pragma once
// The one place where the version stands: CMake, Conan and the `nibble` command read it from here.

#define NIBBLE_VERSION_MAJOR 0
#define NIBBLE_VERSION_MINOR 1
#define NIBBLE_VERSION_PATCH 0
#define NIBBLE_VERSION "0.1.0"
