// SPDX-License-Identifier: Apache-2.0
// expect: nibble: this codec is not in the list `codecs`
#include "nibble/codec/registry.hpp"

using namespace nibble;

using mine = affine<low_first<4, std::uint32_t>, f16_scale, bias<7>, 64>;
constexpr auto i = codec_index<mine>;
