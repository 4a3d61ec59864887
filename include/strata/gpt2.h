#ifndef STRATA_GPT2_H
#define STRATA_GPT2_H
/* GPT-2 weights in Hugging Face's safetensors layout, to and from checkpoints. */

#include <strata/model.h>

STRATA_BEGIN

typedef struct strata_gpt2_config {
    size_t size;           /* STRATA_INIT(strata_gpt2_config) */
    int64_t heads;         /* the file does not say; 0: width/64, as in every published GPT-2 */
    const char *tokenizer; /* NULL: "bpe" */
    const char *vocab;     /* its files, "merges.txt,vocab.json"; NULL: none */
} strata_gpt2_config;

/** Make a checkpoint (no optimiser state) of a weights file; strata_model_load, strata_evaluate and sessions take it.
 *  F32 tensors, names with or without "transformer.".
 *  @return OK | E_FORMAT (names the tensor) | E_SPEC (heads, vocabulary) | E_IO | E_MEMORY */
STRATA_API strata_status strata_gpt2_import(const strata_context *ctx, const char *path, const strata_gpt2_config *cfg,
                                            const char *out_path);
/** Write a model in that layout, bit for bit what was imported. @return OK | E_UNSUPPORTED (the model is none that the
 * layout can hold; says why) | E_IO | E_MEMORY */
STRATA_API strata_status strata_gpt2_export(const strata_model *m, const char *out_path);

STRATA_END
#endif
