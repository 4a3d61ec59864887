#ifndef STRATA_H
#define STRATA_H
/* Everything. */
#include <strata/analysis.h>
#include <strata/attention.h>
#include <strata/bench.h>
#include <strata/context.h>
#include <strata/file.h>
#include <strata/forecast.h>
#include <strata/gpt2.h>
#include <strata/mixer.h>
#include <strata/model.h>
#include <strata/operator.h>
#include <strata/schema.h>
#include <strata/status.h>
#include <strata/tensor.h>
#include <strata/tokenizer.h>
#include <strata/train.h>
#endif
