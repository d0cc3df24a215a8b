# SPDX-License-Identifier: Apache-2.0
# Install rules and the CMake and pkg-config packages. Components: devel (headers, packages), kernels, command.
# Each CMake component has an export set of its own, so that an installation without it says so instead of failing to load.

include(CMakePackageConfigHelpers)

# Headers alone serve every architecture and lie in share/; a compiled library brings the package to lib/.
if(TARGET nibble::kernels)
  set(nibble_package_root ${CMAKE_INSTALL_LIBDIR})
  set(nibble_version_arch)
else()
  set(nibble_package_root ${CMAKE_INSTALL_DATADIR})
  set(nibble_version_arch ARCH_INDEPENDENT)
endif()
set(nibble_package_dir ${nibble_package_root}/cmake/nibble)

install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT devel)

# Exports the export set nibble-COMPONENT, for the install tree and for this build tree.
function(nibble_export component install_component)
  install(EXPORT nibble-${component} FILE nibble-${component}.cmake NAMESPACE nibble:: DESTINATION ${nibble_package_dir} COMPONENT ${install_component})
  export(EXPORT nibble-${component} FILE ${PROJECT_BINARY_DIR}/nibble-${component}.cmake NAMESPACE nibble::)
endfunction()

# Installs a target of headers with these, and exports it.
function(nibble_install_headers component target headers)
  if(CMAKE_VERSION VERSION_LESS 3.23)
    install(TARGETS ${target} EXPORT nibble-${component} COMPONENT devel)
    foreach(header IN LISTS headers)
      get_filename_component(folder ${header} DIRECTORY)
      install(FILES ${PROJECT_SOURCE_DIR}/include/${header} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/${folder} COMPONENT devel)
    endforeach()
  else()
    install(TARGETS ${target} EXPORT nibble-${component} COMPONENT devel FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT devel)
  endif()
  nibble_export(${component} devel)
endfunction()
nibble_install_headers(core nibble "${nibble_headers}")
foreach(component formats spirv vulkan)
  if(TARGET nibble_${component})
    nibble_install_headers(${component} nibble_${component} "${nibble_${component}_headers}")
  endif()
endforeach()

if(TARGET nibble::kernels)
  get_target_property(nibble_kernels_target nibble::kernels ALIASED_TARGET)
  set_target_properties(${nibble_kernels_target} PROPERTIES EXPORT_NAME kernels)
  install(TARGETS ${nibble_kernels_target} EXPORT nibble-kernels COMPONENT kernels
          ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
  # A static library names even its private dependencies, for the link; this one is empty in an ordinary build.
  install(TARGETS nibble_build_options EXPORT nibble-kernels COMPONENT kernels)
  nibble_export(kernels kernels)
endif()

if(TARGET nibble_command)
  set_target_properties(nibble_command PROPERTIES EXPORT_NAME command)
  install(TARGETS nibble_command EXPORT nibble-command COMPONENT command RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  nibble_export(command command)
endif()

configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/nibble-config.cmake.in ${PROJECT_BINARY_DIR}/nibble-config.cmake
                              INSTALL_DESTINATION ${nibble_package_dir} NO_SET_AND_CHECK_MACRO)
# Before 1.0 a minor version may break what the one before it promised.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/nibble-config-version.cmake COMPATIBILITY SameMinorVersion ${nibble_version_arch})
install(FILES ${PROJECT_BINARY_DIR}/nibble-config.cmake ${PROJECT_BINARY_DIR}/nibble-config-version.cmake
        DESTINATION ${nibble_package_dir} COMPONENT devel)

# pkg-config: nibble, and nibble-formats for the headers that read JSON. The prefix is found from the file's own place.
set(nibble_pc_dir ${nibble_package_root}/pkgconfig)
file(RELATIVE_PATH nibble_pc_prefix ${CMAKE_INSTALL_PREFIX}/${nibble_pc_dir} ${CMAKE_INSTALL_PREFIX})
string(REGEX REPLACE "/$" "" nibble_pc_prefix "${nibble_pc_prefix}")
# tl-expected and protozero have no pkg-config files of their own; their folders are named where the compiler does not look by itself.
get_target_property(nibble_expected_include tl::expected INTERFACE_INCLUDE_DIRECTORIES)
function(nibble_pkg_config name description requires libs)
  cmake_parse_arguments(flags "" "" "INCLUDES;DEFINITIONS" ${ARGN})
  if(flags_INCLUDES)
    list(REMOVE_DUPLICATES flags_INCLUDES)
    list(REMOVE_ITEM flags_INCLUDES ${CMAKE_CXX_IMPLICIT_INCLUDE_DIRECTORIES})
  endif()
  list(TRANSFORM flags_INCLUDES PREPEND " -I")
  list(TRANSFORM flags_DEFINITIONS PREPEND " -D")
  string(JOIN "" cflags ${flags_INCLUDES} ${flags_DEFINITIONS})
  file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/pkgconfig/${name}.pc @ONLY CONTENT [[
prefix=${pcfiledir}/@nibble_pc_prefix@
includedir=${prefix}/@CMAKE_INSTALL_INCLUDEDIR@
libdir=${prefix}/@CMAKE_INSTALL_LIBDIR@

Name: @name@
Description: @description@
Version: @PROJECT_VERSION@
Requires: @requires@
Cflags: -I${includedir}@cflags@
Libs: @libs@
]])
  install(FILES ${PROJECT_BINARY_DIR}/pkgconfig/${name}.pc DESTINATION ${nibble_pc_dir} COMPONENT devel)
endfunction()
nibble_pkg_config(nibble "${PROJECT_DESCRIPTION}" "xsimd" "" INCLUDES ${nibble_expected_include})
if(TARGET nibble_formats)
  nibble_pkg_config(nibble-formats "The headers of nibble that read and write model files" "nibble nlohmann_json" "-pthread"
                    INCLUDES ${NIBBLE_PROTOZERO_INCLUDE})
endif()
if(TARGET nibble::kernels)
  get_target_property(nibble_kernels_definitions nibble::kernels INTERFACE_COMPILE_DEFINITIONS)
  if(NOT nibble_kernels_definitions)
    set(nibble_kernels_definitions)
  endif()
  nibble_pkg_config(nibble-kernels "Compiled kernels of nibble with run-time dispatch" "nibble" "-L\${libdir} -l${nibble_kernels_target}"
                    DEFINITIONS ${nibble_kernels_definitions})
endif()
