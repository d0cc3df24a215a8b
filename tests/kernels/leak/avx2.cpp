// SPDX-License-Identifier: Apache-2.0
// What symbols.cmake must catch: a unit that emits an inline function which names no architecture.
namespace nibble {

[[gnu::noinline]] inline int twice(int x) { return 2 * x; }

namespace cpu {
struct avx2 {};
template <class Arch>
int kernel(int x) {
    return twice(x);
}
template int kernel<avx2>(int);
}  // namespace cpu

}  // namespace nibble
