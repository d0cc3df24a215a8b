# SPDX-License-Identifier: Apache-2.0
# nibble::kernels: one generated unit per architecture, compiled with its flags, and one that chooses between them at run time.
#
# The trap of such libraries: an inline function that two units compile with different flags is one symbol to the linker, which may
# keep the AVX-512 copy for the whole program. So in a unit (1) all that is emitted carries the architecture in its name, because
# it is a template over the tag; (2) the helpers below that are forced inline; (3) the scalar law is `extern template`, emitted by the
# baseline unit alone; (4) units are always optimised, or else every small function of the standard library would be emitted.
# tests/kernels/symbols.cmake looks at the symbols. Making them local after the fact (objcopy) was the other road: it needs a
# relinked object per unit, ends with link-time optimisation and is not there on every platform.

if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  set(nibble_archs avx512vnni avx512 avx2 sse2)  # best first
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
  set(nibble_archs neon64)
else()
  message(STATUS "nibble: no kernels are known for ${CMAKE_SYSTEM_PROCESSOR}; nibble::kernels is left out")
  return()
endif()
set(nibble_flags_avx2 -mavx2 -mfma -mf16c -mbmi -mbmi2)
set(nibble_flags_avx512 ${nibble_flags_avx2} -mavx512f -mavx512cd -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512)
# xsimd 13 orders its tags so that VBMI needs IFMA; kernel_law.cpp.in asks the processor for it too.
set(nibble_flags_avx512vnni ${nibble_flags_avx512} -mavx512vnni -mavx512ifma -mavx512vbmi -mavx512vbmi2 -mavx512bitalg)

# The lists of the units, as macro calls.
set(nibble_kernel_laws "")
foreach(codec q4f16_1 q4f32_1 q4bf16_1 rows_of<q4bf16_0> q3f16_1 q8f16_1)
  string(APPEND nibble_kernel_laws "NIBBLE_LAW(${codec})\n")
endforeach()
set(nibble_kernel_archs "")
foreach(arch IN LISTS nibble_archs)
  string(APPEND nibble_kernel_archs "NIBBLE_ARCH(${arch})\n")
endforeach()

set(nibble_kernel_dir ${PROJECT_BINARY_DIR}/kernels)
configure_file(${PROJECT_SOURCE_DIR}/cmake/kernel_law.cpp.in ${nibble_kernel_dir}/law.cpp @ONLY)
add_library(nibble_kernels STATIC ${nibble_kernel_dir}/law.cpp)
foreach(arch IN LISTS nibble_archs)
  configure_file(${PROJECT_SOURCE_DIR}/cmake/kernel_unit.cpp.in ${nibble_kernel_dir}/${arch}.cpp @ONLY)
  target_sources(nibble_kernels PRIVATE ${nibble_kernel_dir}/${arch}.cpp)
  set_source_files_properties(${nibble_kernel_dir}/${arch}.cpp PROPERTIES COMPILE_OPTIONS "${nibble_flags_${arch}};-O3")
endforeach()
add_library(nibble::kernels ALIAS nibble_kernels)
set_target_properties(nibble_kernels PROPERTIES EXPORT_NAME kernels POSITION_INDEPENDENT_CODE ON)
target_compile_options(nibble_kernels PRIVATE -fno-exceptions -fno-rtti -ffp-contract=off)
target_compile_definitions(nibble_kernels INTERFACE NIBBLE_KERNELS_LINKED)
target_link_libraries(nibble_kernels PUBLIC nibble PRIVATE $<BUILD_INTERFACE:nibble_build_options>)
