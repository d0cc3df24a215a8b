// SPDX-License-Identifier: Apache-2.0
#pragma once
// A file that lives in memory and has a path, for parsers that open what they read.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include <sys/mman.h>
#include <unistd.h>

namespace nibble::test {

class memory_file {
public:
    memory_file(const std::uint8_t* data, std::size_t n) : fd_(::memfd_create("fuzz", MFD_CLOEXEC)) {
        if (fd_ < 0 || ::write(fd_, data, n) != static_cast<ssize_t>(n)) std::abort();
    }
    ~memory_file() { ::close(fd_); }
    memory_file(const memory_file&) = delete;
    memory_file& operator=(const memory_file&) = delete;
    [[nodiscard]] std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }

private:
    int fd_;
};

}  // namespace nibble::test
