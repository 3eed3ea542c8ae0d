#include <muon/kernels.h>

#include "kernels/simd.h"

#include <string.h>

typedef void convert_fn(const unsigned char *restrict src, size_t count, double *restrict dst);

typedef struct dtype {
	const char *name;
	size_t size;
	bool is_float;
	double eps;
} dtype;

#define DTYPE_ROW(id, label, size, is_float, eps) [id] = {label, size, is_float, eps},
static const dtype dtypes[MUON_DTYPE_COUNT] = {MUON_DTYPE_TABLE(DTYPE_ROW)};
#undef DTYPE_ROW

static const dtype *lookup(muon_dtype type)
{
	static const dtype none = {"?", 0, false, 0};
	return (unsigned)type < MUON_DTYPE_COUNT ? &dtypes[type] : &none;
}

const char *muon_dtype_name(muon_dtype type)
{
	return lookup(type)->name;
}

size_t muon_dtype_size(muon_dtype type)
{
	return lookup(type)->size;
}

bool muon_dtype_is_float(muon_dtype type)
{
	return lookup(type)->is_float;
}

double muon_dtype_eps(muon_dtype type)
{
	return lookup(type)->eps;
}

/* ---- conversion: src may have any alignment, hence the memcpy loads ------------------------- */

static inline float float_from_bits(uint32_t bits)
{
	float x;
	memcpy(&x, &bits, sizeof x);
	return x;
}

static inline uint32_t bits_of_float(float x)
{
	uint32_t bits;
	memcpy(&bits, &x, sizeof bits);
	return bits;
}

/* condition ? a : b by masks: GCC won't vectorise a ?: over arithmetic that could trap. */
static inline uint32_t choose(bool condition, uint32_t a, uint32_t b)
{
	uint32_t mask = 0u - (uint32_t)condition;
	return (a & mask) | (b & ~mask);
}

/* Value of a small IEEE-like number: `bits` has `mantissa` fraction bits and the exponent above
 * them, no sign, `bias` its exponent bias. Codes from `special` up are NaN, or Inf where equal to
 * `inf`. Branchless, in float32, which holds every such number as a normal one. */
static inline float widen(uint32_t bits, unsigned mantissa, uint32_t bias, uint32_t special,
			  uint32_t inf)
{
	const uint32_t rebias = (127 - bias) << 23, one_binade = 1u << 23;
	uint32_t normal = (bits << (23 - mantissa)) + rebias;
	/* a subnormal m * 2^(1-bias) is (1 + m) * 2^(1-bias) - 2^(1-bias), m < 1 */
	float offset = float_from_bits(rebias + one_binade);
	float subnormal = float_from_bits(normal + one_binade) - offset;
	uint32_t value = choose(bits >> mantissa != 0, normal, bits_of_float(subnormal));
	uint32_t beyond = choose(bits == inf, 0x7f800000u, 0x7fc00000u);
	return float_from_bits(choose(bits >= special, beyond, value));
}

static inline float with_sign(float magnitude, uint32_t negative)
{
	return float_from_bits(bits_of_float(magnitude) | negative << 31);
}

static void from_f64(const unsigned char *restrict src, size_t count, double *restrict dst)
{
	memcpy(dst, src, count * sizeof *dst);
}

SIMD_CLONES
static void from_f32(const unsigned char *restrict src, size_t count, double *restrict dst)
{
	for (size_t i = 0; i < count; i++) {
		float x;
		memcpy(&x, src + i * sizeof x, sizeof x);
		dst[i] = (double)x;
	}
}

SIMD_CLONES
static void from_bf16(const unsigned char *restrict src, size_t count, double *restrict dst)
{
	for (size_t i = 0; i < count; i++) {
		uint16_t bits;
		memcpy(&bits, src + i * sizeof bits, sizeof bits);
		dst[i] = (double)float_from_bits((uint32_t)bits << 16);
	}
}

SIMD_CLONES
static void from_f16(const unsigned char *restrict src, size_t count, double *restrict dst)
{
	for (size_t i = 0; i < count; i++) {
		uint16_t bits;
		memcpy(&bits, src + i * sizeof bits, sizeof bits);
		float magnitude = widen(bits & 0x7fffu, 10, 15, 0x7c00, 0x7c00);
		dst[i] = (double)with_sign(magnitude, bits >> 15);
	}
}

SIMD_CLONES
static void from_f8_e5m2(const unsigned char *restrict src, size_t count, double *restrict dst)
{
	for (size_t i = 0; i < count; i++) {
		float magnitude = widen(src[i] & 0x7fu, 2, 15, 0x7c, 0x7c);
		dst[i] = (double)with_sign(magnitude, src[i] >> 7);
	}
}

SIMD_CLONES
static void from_f8_e4m3(const unsigned char *restrict src, size_t count, double *restrict dst)
{
	enum { NO_INF = 0x100 };
	for (size_t i = 0; i < count; i++) {
		float magnitude = widen(src[i] & 0x7fu, 3, 7, 0x7f, NO_INF);
		dst[i] = (double)with_sign(magnitude, src[i] >> 7);
	}
}

static void from_bool(const unsigned char *restrict src, size_t count, double *restrict dst)
{
	for (size_t i = 0; i < count; i++)
		dst[i] = src[i] ? 1 : 0;
}

#define FROM_INTEGER(name, type)                                                                   \
	static void name(const unsigned char *restrict src, size_t count, double *restrict dst)    \
	{                                                                                          \
		for (size_t i = 0; i < count; i++) {                                               \
			type x;                                                                    \
			memcpy(&x, src + i * sizeof x, sizeof x);                                  \
			dst[i] = (double)x;                                                        \
		}                                                                                  \
	}
FROM_INTEGER(from_i64, int64_t)
FROM_INTEGER(from_i32, int32_t)
FROM_INTEGER(from_i16, int16_t)
FROM_INTEGER(from_i8, int8_t)
FROM_INTEGER(from_u64, uint64_t)
FROM_INTEGER(from_u32, uint32_t)
FROM_INTEGER(from_u16, uint16_t)
FROM_INTEGER(from_u8, uint8_t)
#undef FROM_INTEGER

int muon_convert_f64(muon_dtype type, const void *src, size_t count, double *dst)
{
	static convert_fn *const converters[MUON_DTYPE_COUNT] = {
	    [MUON_F64] = from_f64,   [MUON_F32] = from_f32,         [MUON_F16] = from_f16,
	    [MUON_BF16] = from_bf16, [MUON_F8_E4M3] = from_f8_e4m3, [MUON_F8_E5M2] = from_f8_e5m2,
	    [MUON_I64] = from_i64,   [MUON_I32] = from_i32,         [MUON_I16] = from_i16,
	    [MUON_I8] = from_i8,     [MUON_U64] = from_u64,         [MUON_U32] = from_u32,
	    [MUON_U16] = from_u16,   [MUON_U8] = from_u8,           [MUON_BOOL] = from_bool,
	};
	if ((unsigned)type >= MUON_DTYPE_COUNT)
		return MUON_E_ARGUMENT;
	converters[type](src, count, dst);
	return MUON_OK;
}
