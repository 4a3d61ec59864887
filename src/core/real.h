#ifndef STI_REAL_H
#define STI_REAL_H
/* One source for f32 and f64: a NAME.inc is included twice, with REAL and SFX (_f32, _f64) defined; R(name) is then
 * name_f32 or name_f64. */
#define STI_CAT_(a, b) a##b
#define STI_CAT(a, b) STI_CAT_(a, b)
#define R(name) STI_CAT(name, SFX)
#endif
