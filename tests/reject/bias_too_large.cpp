// SPDX-License-Identifier: Apache-2.0
// expect: nibble: the bias does not fit in the codes
#include "nibble/codec/affine.hpp"

using namespace nibble;

using mine = affine<low_first<3, std::uint32_t>, f16_scale, bias<7>, 32>;
constexpr auto words = mine::words_per_group;
