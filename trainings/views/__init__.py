"""The pages: each view translates HTTP and nothing else."""
