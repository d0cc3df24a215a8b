// SPDX-License-Identifier: Apache-2.0
// The main() of every test program: Catch2 3 brings its own, Catch2 2 compiles it here once.
#if !__has_include(<catch2/catch_test_macros.hpp>)
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
#endif
