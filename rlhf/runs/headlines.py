"""The numbers that a run is known by, and how sure one must be to call a run by them different."""

HEADLINES = (  # in the order of the stages that measure them
    "base_perplexity", "sft_perplexity_after", "reward_accuracy", "reward_referee_accuracy", "ppo_score_final",
    "ppo_kl_final", "eval_gold_ppo", "eval_gold_winrate", "eval_rm_winrate", "eval_referee_winrate", "eval_kl",
    "eval_ood_gold_winrate",
)  # fmt: skip
FAMILYWISE = 0.05  # the chance that a run like those of the table is called different
SEEDS = 20  # fewer say too little about a spread to clear a run by it
