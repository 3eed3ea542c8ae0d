/* Element types of HDF5 datasets: the ones that we have, bit for bit, and names for the others. */
#include "checkpoint/hdf5_library.h"

#include <stdio.h>
#include <string.h>

typedef struct float_layout {
	muon_dtype dtype;
	const char *name;
	size_t size, sign, exponent, exponent_size, mantissa, mantissa_size, bias;
} float_layout;

static const float_layout float_layouts[] = {
    {MUON_F64, "float64", 8, 63, 52, 11, 0, 52, 1023},
    {MUON_F32, "float32", 4, 31, 23, 8, 0, 23, 127},
    {MUON_F16, "float16", 2, 15, 10, 5, 0, 10, 15},
    {MUON_BF16, "bfloat16", 2, 15, 7, 8, 0, 7, 127},
    {MUON_F8_E4M3, "float8_e4m3", 1, 7, 3, 4, 0, 3, 7},
    {MUON_F8_E5M2, "float8_e5m2", 1, 7, 2, 5, 0, 2, 15},
};
enum { FLOAT_LAYOUTS = sizeof float_layouts / sizeof *float_layouts };

static void name_type(h5_element_type *element, muon_dtype dtype, const char *name)
{
	element->dtype = dtype;
	snprintf(element->name, sizeof element->name, "%s", name);
}

static void describe_float(hid_t type, h5_element_type *element)
{
	float_layout f = {0};
	f.size = H5Tget_size(type);
	f.bias = H5Tget_ebias(type);
	size_t precision = H5Tget_precision(type);
	H5T_order_t order = H5Tget_order(type);
	snprintf(element->name, sizeof element->name, "float%zu in %zu bytes", precision, f.size);
	if (H5Tget_fields(type, &f.sign, &f.exponent, &f.exponent_size, &f.mantissa,
	                  &f.mantissa_size) < 0 ||
	    H5Tget_norm(type) != H5T_NORM_IMPLIED || H5Tget_offset(type) != 0 ||
	    precision != 8 * f.size || (order != H5T_ORDER_LE && order != H5T_ORDER_BE))
		return;
	for (size_t i = 0; i < FLOAT_LAYOUTS; i++) {
		const float_layout *l = &float_layouts[i];
		if (f.size == l->size && f.sign == l->sign && f.exponent == l->exponent &&
		    f.exponent_size == l->exponent_size && f.mantissa == l->mantissa &&
		    f.mantissa_size == l->mantissa_size && f.bias == l->bias)
			name_type(element, l->dtype, l->name);
	}
}

static void describe_integer(hid_t type, h5_element_type *element)
{
	static const struct {
		size_t size;
		muon_dtype dtypes[2];
	} known[] = {
	    {1, {MUON_U8, MUON_I8}},
	    {2, {MUON_U16, MUON_I16}},
	    {4, {MUON_U32, MUON_I32}},
	    {8, {MUON_U64, MUON_I64}},
	};
	size_t size = H5Tget_size(type), precision = H5Tget_precision(type);
	H5T_sign_t sign = H5Tget_sign(type);
	bool has_sign = sign == H5T_SGN_2;
	const char *word = has_sign ? "int" : "uint";
	if (precision != 8 * size || H5Tget_offset(type) != 0 || sign == H5T_SGN_ERROR) {
		snprintf(element->name, sizeof element->name, "%s%zu in %zu bytes", word, precision,
		         size);
		return;
	}
	snprintf(element->name, sizeof element->name, "%s%zu", word, precision);
	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (known[i].size == size)
			element->dtype = known[i].dtypes[has_sign];
}

/* h5py stores booleans as an enumeration {FALSE = 0, TRUE = 1} of 8-bit integers. */
static bool is_bool(hid_t type)
{
	if (H5Tget_size(type) != 1 || H5Tget_nmembers(type) != 2)
		return false;
	bool good = true;
	for (unsigned i = 0; i < 2; i++) {
		signed char value = -1;
		char *name = H5Tget_member_name(type, i);
		good = good && name && H5Tget_member_value(type, i, &value) >= 0 &&
		       ((value == 0 && !strcmp(name, "FALSE")) ||
		        (value == 1 && !strcmp(name, "TRUE")));
		H5free_memory(name);
	}
	return good;
}

/* Types that HDF5 had no name for are stored as plain bytes; an attribute says what they are. */
static void apply_label(hid_t dataset, hid_t type, h5_element_type *element)
{
	muon_arena arena = {0};
	const char *label = mspec_h5_read_text(dataset, "dtype", &arena);
	muon_dtype dtype = label ? mspec_dtype_from_label(label) : MUON_DTYPE_NONE;
	if (dtype != MUON_DTYPE_NONE && muon_dtype_size(dtype) == H5Tget_size(type)) {
		char as[sizeof element->name];
		snprintf(as, sizeof as, "%s", element->name);
		element->dtype = dtype;
		snprintf(element->name, sizeof element->name, "%s as %.24s", muon_dtype_name(dtype),
		         as);
	}
	muon_arena_release(&arena);
}

static const char *class_name(H5T_class_t class)
{
	static const char *const names[] = {
	    [H5T_TIME] = "time",           [H5T_STRING] = "string", [H5T_BITFIELD] = "bitfield",
	    [H5T_COMPOUND] = "compound",   [H5T_VLEN] = "vlen",     [H5T_ARRAY] = "array",
	    [H5T_REFERENCE] = "reference",
	};
	bool known = class >= 0 && (size_t)class < sizeof names / sizeof *names && names[class];
	return known ? names[class] : "unknown";
}

void mspec_h5_describe_type(hid_t dataset, hid_t type, h5_element_type *element)
{
	*element = (h5_element_type){.dtype = MUON_DTYPE_NONE};
	size_t size = H5Tget_size(type);
	H5T_class_t class = H5Tget_class(type);
	switch (class) {
	case H5T_FLOAT:
		describe_float(type, element);
		break;
	case H5T_INTEGER:
		describe_integer(type, element);
		if (element->dtype == MUON_U8 || element->dtype == MUON_U16)
			apply_label(dataset, type, element);
		break;
	case H5T_ENUM:
		if (is_bool(type))
			name_type(element, MUON_BOOL, "bool");
		else
			name_type(element, MUON_DTYPE_NONE, "enum");
		break;
	case H5T_OPAQUE:
		snprintf(element->name, sizeof element->name, "opaque(%zu)", size);
		apply_label(dataset, type, element);
		break;
	default:
		name_type(element, MUON_DTYPE_NONE, class_name(class));
		break;
	}
	/* opaque has no order of its own */
	if (element->dtype != MUON_DTYPE_NONE && size > 1 && class != H5T_OPAQUE &&
	    H5Tget_order(type) != H5Tget_order(H5T_NATIVE_INT)) {
		element->swap = true;
		size_t used = strlen(element->name);
		snprintf(element->name + used, sizeof element->name - used, " big-endian");
	}
}

static hid_t make_float_type(const float_layout *l)
{
	/* fields must fit the size at every step, so the size shrinks last */
	hid_t type = H5Tcopy(l->size == 8 ? H5T_NATIVE_DOUBLE : H5T_NATIVE_FLOAT);
	if (type >= 0 && l->size == 2 &&
	    (H5Tset_fields(type, l->sign, l->exponent, l->exponent_size, l->mantissa,
	                   l->mantissa_size) < 0 ||
	     H5Tset_size(type, l->size) < 0 || H5Tset_ebias(type, l->bias) < 0)) {
		mspec_h5_close(type);
		return H5I_INVALID_HID;
	}
	return type;
}

static hid_t make_bool_type(void)
{
	signed char no = 0, yes = 1;
	hid_t type = H5Tenum_create(H5T_NATIVE_SCHAR);
	if (type >= 0 && (H5Tenum_insert(type, "FALSE", &no) < 0 ||
	                  H5Tenum_insert(type, "TRUE", &yes) < 0)) {
		mspec_h5_close(type);
		return H5I_INVALID_HID;
	}
	return type;
}

hid_t mspec_h5_make_type(muon_dtype dtype)
{
	switch (dtype) {
	case MUON_F64:
	case MUON_F32:
	case MUON_F16:
	case MUON_BF16:
		for (size_t i = 0; i < FLOAT_LAYOUTS; i++)
			if (float_layouts[i].dtype == dtype)
				return make_float_type(&float_layouts[i]);
		return H5I_INVALID_HID;
	case MUON_I64:
		return H5Tcopy(H5T_NATIVE_INT64);
	case MUON_I32:
		return H5Tcopy(H5T_NATIVE_INT32);
	case MUON_I16:
		return H5Tcopy(H5T_NATIVE_INT16);
	case MUON_I8:
		return H5Tcopy(H5T_NATIVE_INT8);
	case MUON_U64:
		return H5Tcopy(H5T_NATIVE_UINT64);
	case MUON_U32:
		return H5Tcopy(H5T_NATIVE_UINT32);
	case MUON_U16:
		return H5Tcopy(H5T_NATIVE_UINT16);
	case MUON_F8_E4M3:
	case MUON_F8_E5M2:
	case MUON_U8:
		return H5Tcopy(H5T_NATIVE_UINT8);
	case MUON_BOOL:
		return make_bool_type();
	default:
		return H5I_INVALID_HID;
	}
}

hid_t mspec_h5_make_string_type(void)
{
	hid_t type = H5Tcopy(H5T_C_S1);
	if (type >= 0 &&
	    (H5Tset_size(type, H5T_VARIABLE) < 0 || H5Tset_cset(type, H5T_CSET_UTF8) < 0)) {
		mspec_h5_close(type);
		return H5I_INVALID_HID;
	}
	return type;
}

const char *mspec_h5_dtype_label(muon_dtype dtype)
{
	return dtype == MUON_F8_E4M3   ? "float8_e4m3fn"
	       : dtype == MUON_F8_E5M2 ? "float8_e5m2"
	                               : NULL;
}
