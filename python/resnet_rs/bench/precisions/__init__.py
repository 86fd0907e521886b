"""The precisions of a network beside each other: time, memory, and what they cost in labels.

`networks.py` loads the network in each precision that it can have here, `memory.py` measures what
its weights take, `measure.py` times the networks in turns and compares their logits, `result.py` is
the table, and `advice.py` its last sentence.
"""
