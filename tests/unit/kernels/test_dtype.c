#include "unit/unit.h"

#include <float.h>
#include <math.h>
#include <muon/kernels.h>
#include <string.h>

/* A slow decoder from the definition of the formats, for comparison. Codes whose exponent is all
 * ones are Inf and NaN, or in f8_e4m3 numbers but for the last. */
static double decode(uint32_t code, int exponent_bits, int mantissa_bits, bool has_inf)
{
	int bias = (1 << (exponent_bits - 1)) - 1, all_ones = (1 << exponent_bits) - 1;
	int exponent = (int)(code >> mantissa_bits) & all_ones;
	uint32_t mantissa = code & ((1u << mantissa_bits) - 1);
	double sign = code >> (exponent_bits + mantissa_bits) & 1 ? -1 : 1;
	if (exponent == all_ones && has_inf)
		return mantissa ? NAN : sign * INFINITY;
	if (exponent == all_ones && mantissa == (1u << mantissa_bits) - 1)
		return NAN;
	if (exponent == 0)
		return sign * ldexp(mantissa, 1 - bias - mantissa_bits);
	return sign * ldexp(mantissa + (1u << mantissa_bits), exponent - bias - mantissa_bits);
}

/* Same value, the sign of 0 included; NaN equals NaN. */
static bool same(double a, double b)
{
	if (isnan(a) || isnan(b))
		return isnan(a) && isnan(b);
	return a == b && signbit(a) == signbit(b);
}

/* All codes of a 16-bit type, from an odd address and in runs of every length up to 70. */
static void check_all_16(muon_dtype type, int exponent_bits)
{
	static unsigned char bytes[2 * 65536 + 1];
	static double x[65536];
	int wrong = 0;
	for (uint32_t code = 0; code < 65536; code++) {
		uint16_t u = (uint16_t)code;
		memcpy(bytes + 1 + 2 * code, &u, sizeof u);
	}
	size_t done = 0;
	for (size_t run = 1; done < 65536; run = run % 70 + 1) {
		size_t count = 65536 - done < run ? 65536 - done : run;
		CU_ASSERT_EQUAL_FATAL(muon_convert_f64(type, bytes + 1 + 2 * done, count, x + done),
				      MUON_OK);
		done += count;
	}
	for (uint32_t code = 0; code < 65536; code++)
		wrong += !same(x[code], decode(code, exponent_bits, 15 - exponent_bits, true));
	CU_ASSERT_EQUAL(wrong, 0);
	CU_ASSERT_EQUAL(muon_convert_f64(type, bytes + 1, 65536, x), MUON_OK);
	for (uint32_t code = 0; code < 65536; code++)
		wrong += !same(x[code], decode(code, exponent_bits, 15 - exponent_bits, true));
	CU_ASSERT_EQUAL(wrong, 0);
}

static void test_f16(void)
{
	check_all_16(MUON_F16, 5);
}

static void test_bf16(void)
{
	check_all_16(MUON_BF16, 8);
}

static void test_f8(void)
{
	unsigned char codes[256];
	double e4m3[256], e5m2[256];
	int wrong = 0;
	for (int i = 0; i < 256; i++)
		codes[i] = (unsigned char)i;
	CU_ASSERT_EQUAL(muon_convert_f64(MUON_F8_E4M3, codes, 256, e4m3), MUON_OK);
	CU_ASSERT_EQUAL(muon_convert_f64(MUON_F8_E5M2, codes, 256, e5m2), MUON_OK);
	for (uint32_t i = 0; i < 256; i++) {
		double one;
		wrong += !same(e4m3[i], decode(i, 4, 3, false));
		wrong += !same(e5m2[i], decode(i, 5, 2, true));
		muon_convert_f64(MUON_F8_E4M3, codes + i, 1, &one);
		wrong += !same(one, e4m3[i]);
		muon_convert_f64(MUON_F8_E5M2, codes + i, 1, &one);
		wrong += !same(one, e5m2[i]);
	}
	CU_ASSERT_EQUAL(wrong, 0);
	CU_ASSERT_EQUAL(e4m3[0x7e], 448);
	CU_ASSERT_EQUAL(e5m2[0x7b], 57344);
}

static void test_f32(void)
{
	static const uint32_t mantissas[] = {0,        1,        2,        0x2aaaaa,
					     0x400000, 0x555555, 0x7ffffe, 0x7fffff};
	enum { MANTISSAS = sizeof mantissas / sizeof *mantissas, COUNT = 512 * MANTISSAS };
	static uint32_t codes[COUNT];
	static double x[COUNT];
	int wrong = 0;
	for (uint32_t i = 0; i < COUNT; i++)
		codes[i] = i / MANTISSAS << 23 | mantissas[i % MANTISSAS];
	CU_ASSERT_EQUAL(muon_convert_f64(MUON_F32, codes, COUNT, x), MUON_OK);
	for (uint32_t i = 0; i < COUNT; i++)
		wrong += !same(x[i], decode(codes[i], 8, 23, true));
	CU_ASSERT_EQUAL(wrong, 0);
}

static void test_f64(void)
{
	const double values[] = {0,         -0.0,     1,         -DBL_MAX, DBL_MIN,
				 0x1p-1074, INFINITY, -INFINITY, NAN};
	enum { COUNT = sizeof values / sizeof *values };
	unsigned char bytes[sizeof values + 3];
	double x[COUNT];
	memcpy(bytes + 3, values, sizeof values);
	CU_ASSERT_EQUAL(muon_convert_f64(MUON_F64, bytes + 3, COUNT, x), MUON_OK);
	for (int i = 0; i < COUNT; i++)
		CU_ASSERT_TRUE(same(x[i], values[i]));
}

#define CHECK_INTEGERS(type, ctype, ...)                                                           \
	do {                                                                                       \
		const ctype values[] = {__VA_ARGS__};                                              \
		const size_t count = sizeof values / sizeof *values;                               \
		unsigned char bytes[sizeof values + 1];                                            \
		double x[sizeof values / sizeof *values];                                          \
		memcpy(bytes + 1, values, sizeof values);                                          \
		CU_ASSERT_EQUAL(muon_convert_f64(type, bytes + 1, count, x), MUON_OK);             \
		for (size_t i = 0; i < count; i++)                                                 \
			CU_ASSERT_EQUAL(x[i], (double)values[i]);                                  \
	} while (0)

static void test_integers(void)
{
	CHECK_INTEGERS(MUON_I64, int64_t, INT64_MIN, -1, 0, 1, INT64_MAX, INT64_C(1) << 53);
	CHECK_INTEGERS(MUON_I32, int32_t, INT32_MIN, -1, 0, 7, INT32_MAX);
	CHECK_INTEGERS(MUON_I16, int16_t, INT16_MIN, -1, 0, 7, INT16_MAX);
	CHECK_INTEGERS(MUON_I8, int8_t, INT8_MIN, -1, 0, 7, INT8_MAX);
	CHECK_INTEGERS(MUON_U64, uint64_t, 0, 1, UINT64_MAX, UINT64_C(1) << 63);
	CHECK_INTEGERS(MUON_U32, uint32_t, 0, 1, UINT32_MAX, UINT32_C(1) << 31);
	CHECK_INTEGERS(MUON_U16, uint16_t, 0, 1, UINT16_MAX, 1 << 15);
	CHECK_INTEGERS(MUON_U8, uint8_t, 0, 1, UINT8_MAX, 1 << 7);
	const unsigned char flags[] = {0, 1, 2, 255};
	double x[4];
	CU_ASSERT_EQUAL(muon_convert_f64(MUON_BOOL, flags, 4, x), MUON_OK);
	CU_ASSERT_TRUE(x[0] == 0 && x[1] == 1 && x[2] == 1 && x[3] == 1);
}

static void test_properties(void)
{
	/* the code after that of 1 is 1 + eps, by the definition of eps */
	const uint64_t ones[] = {
	    [MUON_F64] = UINT64_C(0x3ff0000000000000),
	    [MUON_F32] = 0x3f800000,
	    [MUON_F16] = 0x3c00,
	    [MUON_BF16] = 0x3f80,
	    [MUON_F8_E4M3] = 0x38,
	    [MUON_F8_E5M2] = 0x3c,
	};
	for (int t = 0; t < MUON_DTYPE_COUNT; t++) {
		muon_dtype type = (muon_dtype)t;
		const char *name = muon_dtype_name(type);
		CU_ASSERT_EQUAL(muon_dtype_is_float(type), name[0] == 'f' || !strcmp(name, "bf16"));
		if (!muon_dtype_is_float(type)) {
			CU_ASSERT_EQUAL(muon_dtype_eps(type), 0);
			continue;
		}
		double x[2];
		uint64_t one = ones[t],
			 next = one + 1; /* little-endian: the low bytes come first */
		muon_convert_f64(type, &one, 1, &x[0]);
		muon_convert_f64(type, &next, 1, &x[1]);
		CU_ASSERT_EQUAL(x[0], 1);
		CU_ASSERT_EQUAL(x[1] - 1, muon_dtype_eps(type));
	}
	CU_ASSERT_EQUAL(muon_dtype_size(MUON_BF16), 2);
	CU_ASSERT_EQUAL(muon_dtype_size(MUON_BOOL), 1);
	CU_ASSERT_STRING_EQUAL(muon_dtype_name(MUON_F8_E4M3), "f8_e4m3");
}

static void test_not_a_type(void)
{
	double x = 5;
	CU_ASSERT_STRING_EQUAL(muon_dtype_name(MUON_DTYPE_NONE), "?");
	CU_ASSERT_EQUAL(muon_dtype_size(MUON_DTYPE_NONE), 0);
	CU_ASSERT_FALSE(muon_dtype_is_float(MUON_DTYPE_NONE));
	CU_ASSERT_EQUAL(muon_dtype_eps(MUON_DTYPE_NONE), 0);
	CU_ASSERT_EQUAL(muon_convert_f64(MUON_DTYPE_NONE, &x, 1, &x), MUON_E_ARGUMENT);
	CU_ASSERT_EQUAL(muon_convert_f64((muon_dtype)1000, &x, 1, &x), MUON_E_ARGUMENT);
	CU_ASSERT_EQUAL(muon_convert_f64(MUON_F32, &x, 0, &x), MUON_OK);
	CU_ASSERT_EQUAL(x, 5);
}

UNIT_SUITE(dtype, {"f16, every code", test_f16}, {"bf16, every code", test_bf16},
	   {"f8, every code", test_f8}, {"f32", test_f32}, {"f64", test_f64},
	   {"integers", test_integers}, {"size, eps, name", test_properties},
	   {"not a type", test_not_a_type})
