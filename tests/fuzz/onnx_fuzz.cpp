// SPDX-License-Identifier: Apache-2.0
// Any bytes as an ONNX model: an error, or a model whose constants all lie in the file and which can be checked and rewritten.
#include "fuzz/memory_file.hpp"
#include "nibble/convert/onnx_quantize.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t n) {
    using namespace nibble;
    const test::memory_file bytes(data, n);
    const auto f = file::open(bytes.path(), n % 2 == 0 ? file_access::map : file_access::read);
    if (!f) std::abort();
    std::vector<std::byte> scratch;
    const auto m = onnx::read_model(*f, scratch);
    if (!m) return m.error().rule.empty() ? std::abort(), 0 : 0;
    std::vector<std::byte> copy;
    for (const auto& t : m->graph.initializers) {
        if (t.data == onnx::read_tensor::place::raw && !(*f)->bytes(t.raw.begin, t.n_bytes, copy)) std::abort();
    }
    onnx::external_files files(*m);
    (void)onnx::check_model(*m, files);
    convert::onnx_quantize_options options;
    options.threads = 1;
    convert::onnx_quantize_report report;
    const auto made = convert::detail::onnx_quantizer(*m, options).run(report);
    if (!made || made->n_bytes() > 1 << 24) return 0;
    std::uint64_t written = 0;
    const auto done = made->write([&](bytes_view b) -> result<void> {
        written += b.size();
        return {};
    });
    if (done && written != made->n_bytes()) std::abort();
    return 0;
}
