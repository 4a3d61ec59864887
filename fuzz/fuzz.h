#ifndef FUZZ_H
#define FUZZ_H
/* A target is one function. MUST states a property that no input may break; sanitizers find the rest. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(e) ((e) ? (void)0 : __builtin_trap())

#endif
