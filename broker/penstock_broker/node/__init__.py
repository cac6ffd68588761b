"""One broker as a pure state machine: events in, effects out.

Joins consensus (`raft`), replicated state (`machine`) and the store (`storage`) and answers
requests. It is handed time and randomness, never blocks, and knows no socket, thread or file:
the runtime and the simulation drive it in the same way.

The order of a round: `now`, then any of `receive`, `job_done`, `tick`; then `end_round`; then the
caller takes the effects: `take_output`, `take_reads`, `store.take_flush`, `store.take_job`.
"""
