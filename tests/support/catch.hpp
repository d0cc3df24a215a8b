// SPDX-License-Identifier: Apache-2.0
#pragma once
// One include for Catch2 version 2 (Debian bookworm) and 3 (packagers).

#if __has_include(<catch2/catch_test_macros.hpp>)
#include <catch2/catch_approx.hpp>
#include <catch2/catch_template_test_macros.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators_all.hpp>
#else
#include <catch2/catch.hpp>
#endif
