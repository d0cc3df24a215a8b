# SPDX-License-Identifier: Apache-2.0
# Dependencies are found, never downloaded: a package manager or the system supplies them (cmake/setup.sh on Debian and Ubuntu).
# nibble-config.cmake.in finds the same ones for those who use an installed nibble.

find_package(tl-expected REQUIRED)
find_package(xsimd REQUIRED)  # no version here: its package file takes that to mean the same major version
if(xsimd_VERSION VERSION_LESS 8.1)
  message(FATAL_ERROR "nibble needs xsimd 8.1 or newer, ${xsimd_VERSION} was found in ${xsimd_DIR}")
endif()
find_package(nlohmann_json 3.10 REQUIRED)
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
if(NIBBLE_BUILD_COMMAND)
  find_package(CLI11 REQUIRED)
endif()
