"""Where studies come from: broad, narrow, rerank, fine-tune.

chain        a study's parents, parents of parents, the oldest first
resolve      what a study takes from its parent's results, once, when it begins
importance   how much each parameter mattered
imports      the parent's trials that tell a narrowed search something
"""
