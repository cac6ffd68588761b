"""Checks histories of publishes, reads and acknowledgements, whoever made them.

Owns the form of a history (`README.md` beside this file) and the rules that one must keep. It
shares no code with brokers or clients, and knows nothing of how they work: an outside checker can
read the same files.
"""
