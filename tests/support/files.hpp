// SPDX-License-Identifier: Apache-2.0
#pragma once
// Folders that vanish with the test, files in one line, and small safetensors checkpoints made on the spot.

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include <unistd.h>

#include "nibble/core/bytes.hpp"

namespace nibble::test {

class temp_folder {
public:
    temp_folder() {
        std::string name = (root() / "nibble-test-XXXXXX").string();
        if (::mkdtemp(name.data()) == nullptr) std::abort();
        path_ = name;
    }
    ~temp_folder() {
        std::error_code ec;
        std::filesystem::remove_all(path_, ec);
    }
    temp_folder(const temp_folder&) = delete;
    temp_folder& operator=(const temp_folder&) = delete;

    [[nodiscard]] std::string operator/(std::string_view name) const { return (path_ / name).string(); }
    [[nodiscard]] const std::filesystem::path& path() const { return path_; }

private:
    /// In memory where there is room, unless TMPDIR says otherwise: conversions sync, and a slow disk makes that most of a test.
    static std::filesystem::path root() {
        std::error_code ec;
        const std::filesystem::path memory = "/dev/shm";
        const auto space = std::filesystem::space(memory, ec);
        const bool roomy = !ec && space.available > (std::uintmax_t{512} << 20) && ::access(memory.c_str(), W_OK) == 0;
        return roomy && std::getenv("TMPDIR") == nullptr ? memory : std::filesystem::temp_directory_path();
    }

    std::filesystem::path path_;
};

inline void write_text(const std::filesystem::path& path, std::string_view text) {
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary).write(text.data(), static_cast<std::streamsize>(text.size()));
}

[[nodiscard]] inline std::string read_text(const std::filesystem::path& path) {
    std::ifstream in(path, std::ios::binary);
    std::ostringstream text;
    text << in.rdbuf();
    return text.str();
}

/// Names of the entries of a folder, sorted.
[[nodiscard]] inline std::vector<std::string> entries(const std::filesystem::path& folder) {
    std::vector<std::string> names;
    std::error_code ec;
    for (const auto& e : std::filesystem::directory_iterator(folder, ec)) names.push_back(e.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
}

/// A file of the safetensors format around any header, valid or not.
[[nodiscard]] inline std::string safetensors_bytes(std::string_view header, std::string_view data) {
    std::string file(8, '\0');
    store(reinterpret_cast<std::byte*>(file.data()), static_cast<std::uint64_t>(header.size()));
    return file.append(header).append(data);
}

/// Collects tensors and writes them as one safetensors file.
class safetensors_maker {
public:
    /// `values` are stored as T; `dtype` is the format's name for T.
    template <class T>
    safetensors_maker& add(std::string_view name, std::string_view dtype, const std::vector<std::uint64_t>& dims, const std::vector<T>& values) {
        if (!header_.empty()) header_ += ',';
        header_ += '"' + std::string(name) + "\":{\"dtype\":\"" + std::string(dtype) + "\",\"shape\":[";
        for (std::size_t i = 0; i < dims.size(); ++i) header_ += (i != 0 ? "," : "") + std::to_string(dims[i]);
        header_ += "],\"data_offsets\":[" + std::to_string(data_.size()) + ",";
        data_.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
        header_ += std::to_string(data_.size()) + "]}";
        return *this;
    }
    [[nodiscard]] std::string bytes() const { return safetensors_bytes("{" + header_ + "}", data_); }

private:
    std::string header_;
    std::string data_;
};

}  // namespace nibble::test
