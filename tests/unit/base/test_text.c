#include "base/text.h"
#include "unit/unit.h"

#include <stdio.h>

static void check_escape(const char *text, const char *expected)
{
	char out[256];
	CU_ASSERT_STRING_EQUAL(muon_escape(out, sizeof out, text), expected);
}

static void test_escape(void)
{
	check_escape("blocks.0.attn", "blocks.0.attn");
	check_escape("a\nb\tc\rd\\e", "a\\nb\\tc\\rd\\\\e");
	check_escape("\x1b[31mred\x7f", "\\x1b[31mred\\x7f");
	check_escape("gr\xc3\xb6\xc3\x9f""e \xe2\x82\xac", "gr\xc3\xb6\xc3\x9f""e \xe2\x82\xac");
	check_escape("\xff\xc3(", "\\xff\\xc3(");                    /* not UTF-8 */
	check_escape("\xc0\xaf\xed\xa0\x80", "\\xc0\\xaf\\xed\\xa0\\x80"); /* overlong, surrogate */
	check_escape("\xc2\x9b""31m", "\\xc2\\x9b""31m");            /* C1 control */
	check_escape("\xe2\x80\xae""abc", "\\xe2\\x80\\xae""abc");   /* right-to-left override */
	check_escape("\xe2\x82", "\\xe2\\x82");                      /* cut off */
}

static void test_escape_cuts_between_characters(void)
{
	char out[6];
	CU_ASSERT_STRING_EQUAL(muon_escape(out, sizeof out, "abc\n\n"), "abc\\n");
	CU_ASSERT_STRING_EQUAL(muon_escape(out, sizeof out, "abcd\xc3\xb6"), "abcd");
	CU_ASSERT_STRING_EQUAL(muon_escape(out, 1, "abc"), "");
}

static void test_natural_order(void)
{
	static const char *const ordered[] = {
	    "",         "a",          "a01",        "a1",        "a2",
	    "a10",      "a10.b2",     "a10.b10",    "a100000000000000000000", "b",
	};
	size_t count = sizeof ordered / sizeof *ordered;
	for (size_t i = 0; i < count; i++)
		for (size_t j = 0; j < count; j++) {
			int order = muon_natural_compare(ordered[i], ordered[j]);
			CU_ASSERT_EQUAL((order > 0) - (order < 0), (i > j) - (i < j));
		}
}

static void test_growing_text(void)
{
	muon_text text = {0};
	char expected[4001] = "";
	for (int i = 0; i < 1000; i++) {
		muon_text_format(&text, "%04d", i % 1000);
		snprintf(expected + 4 * i, 5, "%04d", i % 1000);
	}
	CU_ASSERT_STRING_EQUAL(text.bytes, expected);
	CU_ASSERT_EQUAL(text.length, 4000);
	CU_ASSERT_FALSE(text.failed);
	muon_text_release(&text);
}

static void test_utf8(void)
{
	CU_ASSERT_TRUE(muon_is_utf8(""));
	CU_ASSERT_TRUE(muon_is_utf8("gr\xc3\xb6\xc3\x9f""e \xf0\x9f\x98\x80"));
	CU_ASSERT_FALSE(muon_is_utf8("caf\xe9.weight"));
	CU_ASSERT_FALSE(muon_is_utf8("cut \xe2\x82"));
}

static void test_patterns(void)
{
	static const char *const globs[] = {"layer.?", "*.gain"};
	CU_ASSERT_TRUE(muon_matches_any(globs, 2, "layer.1"));
	CU_ASSERT_TRUE(muon_matches_any(globs, 2, "layer.10.gain"));
	CU_ASSERT_FALSE(muon_matches_any(globs, 1, "layer.10.gain"));
	CU_ASSERT_FALSE(muon_matches_any(NULL, 0, ""));
}

UNIT_SUITE(text, {"UTF-8", test_utf8}, {"escape", test_escape}, {"escape cuts", test_escape_cuts_between_characters},
           {"natural order", test_natural_order}, {"growing text", test_growing_text},
           {"patterns", test_patterns})
