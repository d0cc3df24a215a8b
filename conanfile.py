# SPDX-License-Identifier: Apache-2.0
"""The Conan 2 recipe: `conan create .` packages this tree. For a registry's recipe, add a conandata.yml that names the release's archive."""

import os
import re

from conan import ConanFile
from conan.errors import ConanInvalidConfiguration
from conan.tools.build import check_min_cppstd
from conan.tools.cmake import CMake, CMakeDeps, CMakeToolchain, cmake_layout
from conan.tools.files import copy, get, load

required_conan_version = ">=2.0"


class NibbleConan(ConanFile):
    name = "nibble"
    description = "Quantized tensors: codecs, SIMD and GPU kernels, and the formats in which quantized models travel"
    license = "Apache-2.0"
    topics = ("quantization", "llm", "simd", "webgpu", "onnx", "gguf", "header-only")
    package_type = "header-library"
    settings = "os", "arch", "compiler", "build_type"
    options = {
        "formats": [True, False],
        "spirv": [True, False],
        "vulkan": [True, False],
        "kernels": [True, False],
    }
    default_options = {"formats": True, "spirv": False, "vulkan": False, "kernels": False}
    options_description = {
        "formats": "readers, writers and the converter: nibble::formats",
        "spirv": "GLSL to SPIR-V in process: nibble::spirv",
        "vulkan": "runs compute shaders: nibble::vulkan",
        "kernels": "compiled kernels with run-time dispatch, a static library: nibble::kernels",
    }
    no_copy_source = True

    def set_version(self):
        if not self.version:
            self.version = re.search(r'NIBBLE_VERSION "([0-9.]+)"', load(self, os.path.join(self.recipe_folder, "include/nibble/version.hpp"))).group(1)

    def configure(self):
        if self.options.kernels:
            self.package_type = "static-library"

    def layout(self):
        cmake_layout(self, src_folder="src")

    def export_sources(self):
        if not self.conan_data:
            for pattern in ("include/*", "cmake/*", "CMakeLists.txt", "LICENSE"):
                copy(self, pattern, self.recipe_folder, os.path.join(self.export_sources_folder, "src"))

    def source(self):
        if self.conan_data:
            get(self, **self.conan_data["sources"][self.version], strip_root=True)

    def requirements(self):
        # All of them are included by public headers.
        self.requires("tl-expected/[>=1.0 <2]", transitive_headers=True)
        self.requires("xsimd/[>=8.1 <15]", transitive_headers=True)
        if self.options.formats:
            self.requires("nlohmann_json/[>=3.10 <4]", transitive_headers=True)
            self.requires("protozero/[>=1.7 <2]", transitive_headers=True)
        if self.options.spirv:
            self.requires("glslang/[>=1.3.239]", transitive_headers=True, transitive_libs=True)
        if self.options.vulkan:
            self.requires("vulkan-headers/[>=1.3]", transitive_headers=True)
            self.requires("vulkan-loader/[>=1.3]", transitive_libs=True)

    def package_id(self):
        if self.info.options.kernels:
            # What is compiled does not depend on the other parts.
            for part in ("formats", "spirv", "vulkan"):
                self.info.options.rm_safe(part)
        else:
            self.info.clear()

    def validate(self):
        check_min_cppstd(self, 20)
        if self.settings.compiler == "msvc":
            raise ConanInvalidConfiguration("nibble is written for GCC and Clang, and is not tested with MSVC")

    def generate(self):
        if self.options.kernels:
            toolchain = CMakeToolchain(self)
            for name in ("FORMATS", "SPIRV", "VULKAN", "INSTALL", "BUILD_COMMAND", "BUILD_TESTS", "BUILD_EXAMPLES"):
                toolchain.cache_variables["NIBBLE_" + name] = False
            toolchain.cache_variables["NIBBLE_BUILD_KERNELS"] = True
            toolchain.generate()
            CMakeDeps(self).generate()

    def build(self):
        if self.options.kernels:
            cmake = CMake(self)
            cmake.configure()
            cmake.build(target="nibble_kernels")

    def package(self):
        copy(self, "LICENSE", self.source_folder, os.path.join(self.package_folder, "licenses"))
        copy(self, "*.hpp", os.path.join(self.source_folder, "include"), os.path.join(self.package_folder, "include"))
        for pattern in ("*.a", "*.lib"):
            copy(self, pattern, self.build_folder, os.path.join(self.package_folder, "lib"), keep_path=False)

    def package_info(self):
        self.cpp_info.set_property("cmake_file_name", "nibble")
        self.cpp_info.set_property("cmake_target_name", "nibble::all")  # nibble::nibble is the part that needs least

        def part(name, requires, target=None):
            component = self.cpp_info.components[name]
            component.set_property("cmake_target_name", f"nibble::{target or name}")
            component.set_property("pkg_config_name", "nibble" if target else f"nibble-{name}")
            component.requires = requires
            component.bindirs = component.libdirs = []
            return component

        part("core", ["tl-expected::tl-expected", "xsimd::xsimd"], target="nibble")
        threads = ["pthread"] if self.settings.os in ["Linux", "FreeBSD"] else []
        if self.options.formats:
            part("formats", ["core", "nlohmann_json::nlohmann_json", "protozero::protozero"]).system_libs = threads
        if self.options.spirv:
            glslang = ("glslang-core", "spirv", "glslang-default-resource-limits")
            part("spirv", ["core"] + ["glslang::" + component for component in glslang]).system_libs = threads
        if self.options.vulkan:
            part("vulkan", ["core", "vulkan-headers::vulkan-headers", "vulkan-loader::vulkan-loader"])
        if self.options.kernels:
            kernels = part("kernels", ["core"])
            kernels.libdirs, kernels.libs = ["lib"], ["nibble_kernels"]
            kernels.defines = ["NIBBLE_KERNELS_LINKED"]
