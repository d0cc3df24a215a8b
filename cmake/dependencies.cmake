# SPDX-License-Identifier: Apache-2.0
# Dependencies are found, never downloaded: a package manager or the system supplies them (cmake/setup.sh on Debian and Ubuntu).
# nibble-config.cmake.in finds the same ones for those who use an installed nibble.

find_package(tl-expected REQUIRED)
find_package(xsimd REQUIRED)  # no version here: its package file takes that to mean the same major version
if(xsimd_VERSION VERSION_LESS 8.1)
  message(FATAL_ERROR "nibble needs xsimd 8.1 or newer, ${xsimd_VERSION} was found in ${xsimd_DIR}")
endif()
set(THREADS_PREFER_PTHREAD_FLAG ON)
if(NIBBLE_FORMATS)
  find_package(nlohmann_json 3.10 REQUIRED)
  # protozero reads and writes ONNX; it is headers alone, with no package file in any system.
  find_path(NIBBLE_PROTOZERO_INCLUDE protozero/pbf_writer.hpp REQUIRED)
  find_package(Threads REQUIRED)
endif()
if(NIBBLE_BUILD_COMMAND)
  find_package(CLI11 REQUIRED)
endif()

# nibble_http: cpp-httplib, for the command's server and client; serve/http.hpp is its only door, and nothing that is installed as a
# library needs it. Their tests are left out where the command is. Upstream installs a CMake package, Debian and Ubuntu a pkg-config file; how it was compiled (with
# OpenSSL or not) changes its types, so that its flags must be the package's own.
if(NIBBLE_BUILD_COMMAND)
  add_library(nibble_http INTERFACE)
  find_package(httplib QUIET CONFIG)
  if(httplib_FOUND)
    target_link_libraries(nibble_http INTERFACE httplib::httplib)
  else()
    find_package(PkgConfig REQUIRED)
    pkg_check_modules(nibble_httplib REQUIRED IMPORTED_TARGET cpp-httplib>=0.11)
    target_link_libraries(nibble_http INTERFACE PkgConfig::nibble_httplib)
  endif()
endif()

# nibble::spirv and nibble::vulkan are offered where their dependency is there. glslang takes a version to mean the same major one, so
# none is named; its targets name SPIRV-Tools, which it does not look for itself in every version.
if(NIBBLE_SPIRV)
  find_package(SPIRV-Tools CONFIG QUIET)
  find_package(SPIRV-Tools-opt CONFIG QUIET)
  find_package(glslang CONFIG QUIET)
  find_package(Threads REQUIRED)
  if(NOT TARGET glslang::glslang-default-resource-limits)
    if(NOT NIBBLE_SPIRV STREQUAL "AUTO")
      message(FATAL_ERROR "nibble: NIBBLE_SPIRV needs glslang 12 or newer with its CMake package, which was not found")
    endif()
    message(STATUS "nibble::spirv is left out: glslang was not found")
  endif()
endif()
if(NIBBLE_VULKAN)
  find_package(Vulkan QUIET)
  if(NOT TARGET Vulkan::Vulkan)
    if(NOT NIBBLE_VULKAN STREQUAL "AUTO")
      message(FATAL_ERROR "nibble: NIBBLE_VULKAN needs Vulkan's headers and loader, which were not found")
    endif()
    message(STATUS "nibble::vulkan is left out: Vulkan's headers and loader were not found")
  endif()
endif()
