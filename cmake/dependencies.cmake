# SPDX-License-Identifier: Apache-2.0
# Dependencies are found, never downloaded: a package manager or the system supplies them.

find_package(tl-expected REQUIRED)
if(NOT TARGET tl::expected)
  # Debian's package exports the target, some older ones only the header.
  message(FATAL_ERROR "nibble: tl-expected was found without its target tl::expected")
endif()
find_package(xsimd REQUIRED)
find_package(nlohmann_json 3.10 REQUIRED)
find_package(Threads REQUIRED)
if(NIBBLE_BUILD_COMMAND)
  find_package(CLI11 REQUIRED)
endif()
