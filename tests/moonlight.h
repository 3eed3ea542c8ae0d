/* The matrices of Moonlight-16B-A3B in the order of the model: 5,207 under Muon with 15,288,893,440
 * parameters, embedding and head under AdamW with 671,088,640. Norms are left out, as in the
 * report's counts. Dimensions: the report's and its training configuration. */
#ifndef TESTS_MOONLIGHT_H
#define TESTS_MOONLIGHT_H

#include <muon/dist.h>

enum { MOONLIGHT_LAYERS = 27, MOONLIGHT_PLANNED = 2 + 6 + (MOONLIGHT_LAYERS - 1) * 9 };

/* Experts come as gate, up, down of all 64, each a stack. */
static inline void moonlight_planned(muon_planned planned[MOONLIGHT_PLANNED])
{
	enum { H = 2048, VOCABULARY = 163840, DENSE = 11264, EXPERT = 1408, EXPERTS = 64 };
	const muon_planned attention[] = {
	    {"q_proj", 3072, H, 1, MUON_RULE_MUON},
	    {"kv_a", 576, H, 1, MUON_RULE_MUON},
	    {"kv_b", 4096, 512, 1, MUON_RULE_MUON},
	    {"o_proj", H, H, 1, MUON_RULE_MUON},
	};
	const muon_planned dense[] = {
	    {"dense gate and up", DENSE, H, 2, MUON_RULE_MUON},
	    {"dense down", H, DENSE, 1, MUON_RULE_MUON},
	};
	const muon_planned experts[] = {
	    {"router", EXPERTS, H, 1, MUON_RULE_MUON},
	    {"experts gate and up", EXPERT, H, 2 * EXPERTS, MUON_RULE_MUON},
	    {"experts down", H, EXPERT, EXPERTS, MUON_RULE_MUON},
	    {"shared gate and up", 2 * EXPERT, H, 2, MUON_RULE_MUON},
	    {"shared down", H, 2 * EXPERT, 1, MUON_RULE_MUON},
	};
	*planned++ = (muon_planned){"embedding", VOCABULARY, H, 1, MUON_RULE_ADAMW};
	for (int layer = 0; layer < MOONLIGHT_LAYERS; layer++) {
		for (size_t i = 0; i < sizeof attention / sizeof *attention; i++)
			*planned++ = attention[i];
		const muon_planned *rest = layer ? experts : dense;
		const size_t count = (layer ? sizeof experts : sizeof dense) / sizeof *dense;
		for (size_t i = 0; i < count; i++)
			*planned++ = rest[i];
	}
	*planned = (muon_planned){"head", VOCABULARY, H, 1, MUON_RULE_ADAMW};
}

#endif
