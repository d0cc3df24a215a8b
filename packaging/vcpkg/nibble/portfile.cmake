# The tree that this port stands in. In a registry: vcpkg_from_github(OUT_SOURCE_PATH SOURCE_PATH REPO ... REF "v${VERSION}" SHA512 ...)
get_filename_component(SOURCE_PATH "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)

vcpkg_check_features(OUT_FEATURE_OPTIONS FEATURE_OPTIONS
    FEATURES
        command NIBBLE_BUILD_COMMAND
        formats NIBBLE_FORMATS
        kernels NIBBLE_BUILD_KERNELS
        spirv   NIBBLE_SPIRV
        vulkan  NIBBLE_VULKAN
)
set(config_path lib/cmake/nibble)
if(NOT "kernels" IN_LIST FEATURES)
    set(VCPKG_BUILD_TYPE release) # no library is compiled
    set(config_path share/cmake/nibble)
endif()

vcpkg_cmake_configure(
    SOURCE_PATH "${SOURCE_PATH}"
    OPTIONS
        ${FEATURE_OPTIONS}
        -DNIBBLE_BUILD_TESTS=OFF
        -DNIBBLE_BUILD_EXAMPLES=OFF
        -DNIBBLE_INSTALL=ON
)
vcpkg_cmake_install()
vcpkg_cmake_config_fixup(CONFIG_PATH "${config_path}")
if(EXISTS "${CURRENT_PACKAGES_DIR}/share/pkgconfig") # the one of formats names a library, -pthread, and vcpkg wants such in lib/
    file(MAKE_DIRECTORY "${CURRENT_PACKAGES_DIR}/lib")
    file(RENAME "${CURRENT_PACKAGES_DIR}/share/pkgconfig" "${CURRENT_PACKAGES_DIR}/lib/pkgconfig")
endif()
vcpkg_fixup_pkgconfig()
if("command" IN_LIST FEATURES)
    vcpkg_copy_tools(TOOL_NAMES nibble AUTO_CLEAN)
endif()

file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/debug/include" "${CURRENT_PACKAGES_DIR}/debug/share" "${CURRENT_PACKAGES_DIR}/share/doc")
if(EXISTS "${CURRENT_PACKAGES_DIR}/lib/cmake")
    file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/lib/cmake")
endif()
file(INSTALL "${CMAKE_CURRENT_LIST_DIR}/usage" DESTINATION "${CURRENT_PACKAGES_DIR}/share/${PORT}")
vcpkg_install_copyright(FILE_LIST "${SOURCE_PATH}/LICENSE")
