// SPDX-License-Identifier: Apache-2.0
#pragma once
// The common case in one include: number formats, tensors, every codec, and whole tensors through them. It brings in no JSON, no
// SIMD and no files; the other rooms have their own headers (nibble/convert.hpp, nibble/cpu/kernels.hpp, ...).

#include "nibble/codec/affine.hpp"
#include "nibble/codec/codec.hpp"
#include "nibble/codec/plain.hpp"
#include "nibble/codec/quantize.hpp"
#include "nibble/codec/registry.hpp"
#include "nibble/core/bytes.hpp"
#include "nibble/core/number.hpp"
#include "nibble/core/result.hpp"
#include "nibble/core/tensor.hpp"
#include "nibble/version.hpp"
