#ifndef STI_GPT2_H
#define STI_GPT2_H
/* GPT-2 weights in the layout of Hugging Face's safetensors files, and the decoder that computes the same.
 *
 *   wte.weight (V, D), wpe.weight (T, D), ln_f.{weight,bias}, and for layer l below h.l.: ln_1, ln_2 .{weight,bias},
 *   attn.c_attn (D, 3 D), attn.c_proj (D, D), mlp.c_fc (D, F), mlp.c_proj (F, D) .{weight,bias}
 *
 * Their matrices are (in, out), ours (out, in); c_attn holds query, key and value side by side. All names may begin
 * with "transformer.". The buffers attn.bias and attn.masked_bias are passed over; lm_head.weight must equal
 * wte.weight. */

#include <strata/file.h>

#include "model/model.h"

typedef struct sti_gpt2 {
    int64_t layers, width, heads, hidden, context, vocab;
    const char *prefix; /* "" or "transformer.". static */
} sti_gpt2;

/* Sizes of a file, every tensor checked. heads 0: width/64. E_FORMAT names the tensor. */
strata_status sti_gpt2_of_file(const strata_file *f, int64_t heads, sti_gpt2 *out);
/* The decoder's spec; its base_width must be `width`, so that the tied head does not scale. heap, NULL without memory
 */
char *sti_gpt2_spec(const sti_gpt2 *g);
/* Parameters of a plan of that spec. */
strata_status sti_gpt2_read(const strata_file *f, const sti_gpt2 *g, const sti_params *table, float *params);
/* Write a model. E_UNSUPPORTED when it is not of that spec, naming the difference. */
strata_status sti_gpt2_write(const strata_model *m, const char *path);

#endif
