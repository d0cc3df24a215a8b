// SPDX-License-Identifier: Apache-2.0
#pragma once
// The one place that includes xsimd.

#include <xsimd/xsimd.hpp>
