# SPDX-License-Identifier: Apache-2.0
# nibble::nibble    header-only: core, codec, cpu, gpu text generators
# nibble::formats   optional, adds nlohmann_json, protozero and threads for source, model, shard, onnx, chat, serve, convert
# nibble::spirv     optional, adds glslang for gpu/spirv.hpp
# nibble::vulkan    optional, adds Vulkan for gpu/vulkan.hpp
# nibble::kernels   optional compiled kernels, one translation unit per architecture (kernels.cmake)

# Which headers a target has: its own are taken out of all, and nibble::nibble keeps what is left. CMake 3.23 and newer make a file set
# of them, which IDEs show and which is installed with the target.
file(GLOB_RECURSE nibble_headers RELATIVE ${PROJECT_SOURCE_DIR}/include CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/include/nibble/*.hpp)
function(nibble_take_headers part expression)
  set(taken ${nibble_headers})
  list(FILTER taken INCLUDE REGEX "^nibble/(${expression})$")
  list(FILTER nibble_headers EXCLUDE REGEX "^nibble/(${expression})$")
  set(nibble_${part}_headers ${taken} PARENT_SCOPE)
  set(nibble_headers ${nibble_headers} PARENT_SCOPE)
endfunction()
function(nibble_file_set target headers)
  if(NOT CMAKE_VERSION VERSION_LESS 3.23)
    list(TRANSFORM headers PREPEND ${PROJECT_SOURCE_DIR}/include/)
    target_sources(${target} INTERFACE FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR}/include FILES ${headers})
  endif()
endfunction()
nibble_take_headers(spirv "gpu/spirv\\.hpp")
nibble_take_headers(vulkan "gpu/vulkan.*\\.hpp")
nibble_take_headers(formats "convert\\.hpp|core/(json|python_json)\\.hpp|(chat|convert|model|onnx|serve|shard|source)/.*")

add_library(nibble INTERFACE)
add_library(nibble::nibble ALIAS nibble)
target_compile_features(nibble INTERFACE cxx_std_20)
target_include_directories(nibble INTERFACE
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
  $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_link_libraries(nibble INTERFACE tl::expected)
nibble_file_set(nibble "${nibble_headers}")
# Only the headers of xsimd: Debian's targets also ask for xtl, for complex numbers that are not used here, and Debian 12 does not
# even install it. The folder is read now for our own tree, because a project around it would not see the target.
get_target_property(nibble_xsimd_include xsimd INTERFACE_INCLUDE_DIRECTORIES)
target_include_directories(nibble SYSTEM INTERFACE
  "$<BUILD_INTERFACE:${nibble_xsimd_include}>"
  $<INSTALL_INTERFACE:$<TARGET_PROPERTY:xsimd,INTERFACE_INCLUDE_DIRECTORIES>>)

if(NIBBLE_FORMATS)
  add_library(nibble_formats INTERFACE)
  add_library(nibble::formats ALIAS nibble_formats)
  set_target_properties(nibble_formats PROPERTIES EXPORT_NAME formats)
  nibble_file_set(nibble_formats "${nibble_formats_headers}")
  target_link_libraries(nibble_formats INTERFACE nibble nlohmann_json::nlohmann_json Threads::Threads)
  target_include_directories(nibble_formats SYSTEM INTERFACE $<BUILD_INTERFACE:${NIBBLE_PROTOZERO_INCLUDE}>)
endif()
if(NIBBLE_SPIRV AND TARGET glslang::glslang-default-resource-limits)
  add_library(nibble_spirv INTERFACE)
  add_library(nibble::spirv ALIAS nibble_spirv)
  set_target_properties(nibble_spirv PROPERTIES EXPORT_NAME spirv)
  nibble_file_set(nibble_spirv "${nibble_spirv_headers}")
  target_link_libraries(nibble_spirv INTERFACE nibble glslang::glslang glslang::SPIRV glslang::glslang-default-resource-limits Threads::Threads)
endif()
if(NIBBLE_VULKAN AND TARGET Vulkan::Vulkan)
  add_library(nibble_vulkan INTERFACE)
  add_library(nibble::vulkan ALIAS nibble_vulkan)
  set_target_properties(nibble_vulkan PROPERTIES EXPORT_NAME vulkan)
  nibble_file_set(nibble_vulkan "${nibble_vulkan_headers}")
  target_link_libraries(nibble_vulkan INTERFACE nibble Vulkan::Vulkan)
endif()

# What our own programs, tests and benchmarks are built with; nothing of it reaches a consumer.
add_library(nibble_build_options INTERFACE)
set_target_properties(nibble_build_options PROPERTIES EXPORT_NAME build_options)
if(NIBBLE_STRICT)
  target_compile_options(nibble_build_options INTERFACE
    -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror)
endif()
if(NIBBLE_SANITIZE)
  target_compile_options(nibble_build_options INTERFACE -fsanitize=${NIBBLE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(nibble_build_options INTERFACE -fsanitize=${NIBBLE_SANITIZE})
endif()
# For targets that take a compiler minutes and run for seconds: a sanitizer build does not optimise them, a third of the work.
function(nibble_compile_quickly target)
  if(NIBBLE_SANITIZE)
    target_compile_options(${target} PRIVATE -O0)
  endif()
endfunction()
