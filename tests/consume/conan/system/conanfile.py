# SPDX-License-Identifier: Apache-2.0
"""Stands for a registry's recipe: packages what the system has of the library that --name says, under the target names of ConanCenter."""

import glob
import os

from conan import ConanFile
from conan.tools.files import copy

# Conan's name: folders or files below the include folder, CMake file and target, libraries.
KNOWN = {
    "tl-expected": (["tl"], "tl-expected", "tl::expected"),
    "xsimd": (["xsimd"], "xsimd", "xsimd"),
    "nlohmann_json": (["nlohmann"], "nlohmann_json", "nlohmann_json::nlohmann_json"),
    "protozero": (["protozero"], "protozero", "protozero::protozero"),
    "vulkan-headers": (["vulkan", "vk_video"], "VulkanHeaders", "Vulkan::Headers"),
    "vulkan-loader": ([], "VulkanLoader", "Vulkan::Loader"),
    "glslang": (["glslang"], "glslang", "glslang::all"),
}
# What the linker is told, by component, with what that requires; a registry's packages bring these libraries themselves. Not every
# version of glslang has all of them.
LIBRARIES = {
    "vulkan-loader": {None: (["vulkan"], [])},
    "glslang": {
        "glslang-core": (["glslang"], ["machineindependent"]),
        "machineindependent": (["MachineIndependent"], ["genericcodegen", "osdependent"]),
        "genericcodegen": (["GenericCodeGen"], []),
        "osdependent": (["OSDependent", "OGLCompiler", "pthread"], []),
        "spirv": (["SPIRV", "SPIRV-Tools-opt", "SPIRV-Tools"], ["glslang-core"]),
        "glslang-default-resource-limits": (["glslang-default-resource-limits"], []),
    },
}


class SystemConan(ConanFile):
    package_type = "header-library"
    license = "none: made for a test"
    description = "The system's own library"

    def package(self):
        include = os.environ.get("NIBBLE_SYSTEM_INCLUDE", "/usr/include")
        for folder in KNOWN[self.name][0]:
            if not copy(self, folder + "/*", include, os.path.join(self.package_folder, "include")):
                raise FileNotFoundError(f"{include}/{folder} is not there: install the package that has it")

    def package_info(self):
        folders, file_name, target = KNOWN[self.name]
        self.cpp_info.set_property("cmake_file_name", file_name)
        self.cpp_info.set_property("cmake_target_name", target)
        self.cpp_info.bindirs = self.cpp_info.libdirs = []
        for name, (libraries, requires) in LIBRARIES.get(self.name, {}).items():
            part = self.cpp_info.components[name] if name else self.cpp_info
            part.bindirs = part.libdirs = []
            part.includedirs = ["include"] if folders else []
            part.system_libs = [library for library in libraries if glob.glob(f"/usr/lib/lib{library}.*") + glob.glob(f"/usr/lib/*/lib{library}.*")]
            part.requires = requires
