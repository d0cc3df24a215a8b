// SPDX-License-Identifier: Apache-2.0
// expect: nibble: these codes do not fit in a word
#include "nibble/codec/affine.hpp"

constexpr auto mask = nibble::low_first<4, std::uint8_t, 3>::mask;
