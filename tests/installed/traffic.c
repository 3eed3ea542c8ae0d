/* A program outside the tree, on libmuon: what Distributed Muon would cost, on paper. */
#include <muon/dist.h>
#include <stdio.h>

int main(void)
{
	const muon_planned layers[] = {{"embedding", 32000, 1024, 1, MUON_RULE_ADAMW},
				       {"attention", 1024, 1024, 4 * 24, MUON_RULE_MUON},
				       {"mlp", 4096, 1024, 2 * 24, MUON_RULE_MUON}};
	muon_placement_costs costs;
	const int code = muon_placement_plan(MUON_PLACEMENT_FLAT, layers, 3, 16, MUON_BF16, 5,
					     &costs);
	if (code) {
		fprintf(stderr, "traffic: %s\n", muon_error_text(code));
		return muon_exit_status(code);
	}
	printf("%.3f times AdamW's traffic, %.0f MB of state a rank\n", costs.traffic_ratio,
	       costs.state_bytes_mean / 1e6);
	return costs.matrices == 144 && costs.traffic_ratio > 1 ? 0 : 1;
}
