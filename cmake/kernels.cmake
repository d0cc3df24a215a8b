# SPDX-License-Identifier: Apache-2.0
# nibble::kernels: one generated unit per architecture, compiled with its flags, and one that chooses between them at run time.
#
# The trap of such libraries: an inline function that two units compile with different flags is one symbol to the linker, which may
# keep the AVX-512 copy for the whole program. So in a unit (1) all that is emitted carries the architecture in its name, because
# it is a template over the tag; (2) the helpers below that are forced inline; (3) the scalar law is `extern template`, emitted by the
# baseline unit alone; (4) units are always optimised, or else every small function of the standard library would be emitted.
# tests/kernels/symbols.cmake looks at the symbols. Making them local after the fact (objcopy) was the other road: it needs a
# relinked object per unit, ends with link-time optimisation and is not there on every platform.

include(CheckCXXSourceCompiles)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  set(nibble_archs avx512vnni avx512 avxvnni avx2 sse2)  # best first
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
  set(nibble_archs sve256 neon64_dotprod neon64)
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^wasm(32|64)$")
  set(nibble_archs wasm)  # nothing to choose: an engine has these instructions, or it refuses the module
else()
  message(STATUS "nibble: no kernels are known for ${CMAKE_SYSTEM_PROCESSOR}; nibble::kernels is left out")
  return()
endif()
set(nibble_flags_avx2 -mavx2 -mfma -mf16c -mbmi -mbmi2)
set(nibble_flags_avxvnni ${nibble_flags_avx2} -mavxvnni)
set(nibble_flags_avx512 ${nibble_flags_avx2} -mavx512f -mavx512cd -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512)
# xsimd 13 orders its tags so that VBMI needs IFMA; kernel_law.cpp.in asks the processor for it too.
set(nibble_flags_avx512vnni ${nibble_flags_avx512} -mavx512vnni -mavx512ifma -mavx512vbmi -mavx512vbmi2 -mavx512bitalg)
set(nibble_flags_neon64_dotprod -march=armv8.2-a+dotprod)
set(nibble_flags_sve256 -march=armv8.2-a+dotprod+sve -msve-vector-bits=256)
set(nibble_flags_wasm -msimd128)

# xsimd knows SVE since 9 and WebAssembly since 11, and not every compiler has the flags. Others are had by all.
foreach(arch IN ITEMS sve256 wasm)
  if(arch IN_LIST nibble_archs)
    string(JOIN " " CMAKE_REQUIRED_FLAGS ${nibble_flags_${arch}} -std=c++20)
    set(CMAKE_REQUIRED_INCLUDES ${PROJECT_SOURCE_DIR}/include ${nibble_xsimd_include})
    set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
    check_cxx_source_compiles("#include \"nibble/cpu/simd.hpp\"
      static_assert(nibble::cpu::lanes<nibble::cpu::${arch}> >= 4);
      nibble::cpu::vector_f32<nibble::cpu::${arch}> one(1.0F);" NIBBLE_HAS_${arch})
    unset(CMAKE_TRY_COMPILE_TARGET_TYPE)
    unset(CMAKE_REQUIRED_INCLUDES)
    unset(CMAKE_REQUIRED_FLAGS)
    if(NOT NIBBLE_HAS_${arch})
      message(STATUS "nibble: kernels for ${arch} are left out, this compiler with xsimd ${xsimd_VERSION} has no vectors for it")
      list(REMOVE_ITEM nibble_archs ${arch})
    endif()
  endif()
endforeach()
if(NOT nibble_archs)
  message(STATUS "nibble: nibble::kernels is left out")
  return()
endif()

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
# Sanitizers look at the same instructions with less work for the compiler: the checks of each pointer for null and alignment, which
# are half of that work, are made in the one architecture of tests/native.
set(nibble_optimise -O3)
if(NIBBLE_SANITIZE)
  set(nibble_optimise -O1 -fno-sanitize=null,alignment)
endif()
foreach(arch IN LISTS nibble_archs)
  configure_file(${PROJECT_SOURCE_DIR}/cmake/kernel_unit.cpp.in ${nibble_kernel_dir}/${arch}.cpp @ONLY)
  configure_file(${PROJECT_SOURCE_DIR}/cmake/product_unit.cpp.in ${nibble_kernel_dir}/${arch}_products.cpp @ONLY)
  foreach(unit ${arch}.cpp ${arch}_products.cpp)
    target_sources(nibble_kernels PRIVATE ${nibble_kernel_dir}/${unit})
    set_source_files_properties(${nibble_kernel_dir}/${unit} PROPERTIES COMPILE_OPTIONS "${nibble_flags_${arch}};${nibble_optimise}")
  endforeach()
endforeach()
add_library(nibble::kernels ALIAS nibble_kernels)
set_target_properties(nibble_kernels PROPERTIES EXPORT_NAME kernels POSITION_INDEPENDENT_CODE ON NIBBLE_ARCHS "${nibble_archs}")
target_compile_options(nibble_kernels PRIVATE -fno-exceptions -fno-rtti -ffp-contract=off)
target_compile_definitions(nibble_kernels INTERFACE NIBBLE_KERNELS_LINKED)
target_link_libraries(nibble_kernels PUBLIC nibble PRIVATE $<BUILD_INTERFACE:nibble_build_options>)
